import asyncio
from typing import Any

import httpx
import pytest
from joserfc.jwk import OctKey, RSAKey

from kgl_servicekit.identity.jwks import CachedJwks, http_jwks, signing_keys
from kgl_servicekit.identity.problems import IdentityUnavailable
from kgl_servicekit.identity.testing import TokenSigner

FIRST = TokenSigner(kid="first")
SECOND = TokenSigner(kid="second")


class Issuer:
    """An issuer with a clock, whose document and mood can change."""

    def __init__(self, *signers: TokenSigner) -> None:
        self.signers = list(signers)
        self.now = 1000.0
        self.asked = 0
        self.error: Exception | None = None
        self.answer = asyncio.Event()
        self.answer.set()
        self.keys = CachedJwks(self.fetch, lambda: self.now)

    async def fetch(self) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        return {"keys": [key for signer in self.signers for key in signer.jwks()["keys"]]}


async def test_keys_are_fetched_once_for_all_who_wait() -> None:
    issuer = Issuer(FIRST)
    found = await asyncio.gather(*(issuer.keys.key("first") for _ in range(20)))
    assert len({id(key) for key in found}) == 1
    assert issuer.asked == 1


async def test_a_flood_of_unknown_ids_asks_at_most_once_in_30_seconds() -> None:
    issuer = Issuer(FIRST)
    assert await issuer.keys.key("first")
    for second in range(90):
        issuer.now = 1000.0 + second
        assert await issuer.keys.key(f"unknown-{second}") is None
    assert issuer.asked == 3


async def test_a_new_key_is_found_after_at_most_30_seconds() -> None:
    issuer = Issuer(FIRST)
    await issuer.keys.key("first")
    issuer.signers.append(SECOND)
    assert await issuer.keys.key("second") is None
    issuer.now += 30
    assert await issuer.keys.key("second") is not None


async def test_a_key_that_was_rotated_out_is_gone_after_five_minutes_and_the_others_stay_the_same() -> None:
    issuer = Issuer(FIRST, SECOND)
    await issuer.keys.key("first")
    kept = await issuer.keys.key("second")
    issuer.signers.remove(FIRST)
    issuer.now += 299
    assert await issuer.keys.key("first") is not None
    issuer.now += 1
    assert await issuer.keys.key("first") is None
    assert await issuer.keys.key("second") is kept


async def test_a_slow_issuer_holds_up_one_request_and_not_those_whose_key_is_known() -> None:
    issuer = Issuer(FIRST)
    known = await issuer.keys.key("first")
    issuer.answer.clear()
    issuer.now += 300
    waiting = asyncio.ensure_future(issuer.keys.key("first"))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(issuer.keys.key("first"), 1) is known
    assert not waiting.done()
    issuer.answer.set()
    assert await waiting is known
    assert issuer.asked == 2


async def test_known_keys_go_on_while_the_issuer_is_out_and_unknown_ones_are_not_called_invalid() -> None:
    issuer = Issuer(FIRST)
    known = await issuer.keys.key("first")
    issuer.error = httpx.ConnectError("down")
    for minutes in range(1, 30):
        issuer.now = 1000.0 + minutes * 60
        assert await issuer.keys.key("first") is known
    with pytest.raises(IdentityUnavailable):
        await issuer.keys.key("second")
    asked = issuer.asked
    with pytest.raises(IdentityUnavailable):
        await issuer.keys.key("second")
    assert issuer.asked == asked
    issuer.error = None
    issuer.now += 31
    assert await issuer.keys.key("second") is None


@pytest.mark.parametrize("answer", [ValueError("garbage"), OSError("reset"), httpx.ReadTimeout("slow")])
async def test_without_any_key_an_outage_is_an_outage(answer: Exception) -> None:
    issuer = Issuer(FIRST)
    issuer.error = answer
    with pytest.raises(IdentityUnavailable):
        await issuer.keys.key("first")


@pytest.mark.filterwarnings("ignore:Key size:joserfc.errors.SecurityWarning")
def test_only_rsa_signing_keys_of_2048_bits_or_more_are_used() -> None:
    good = FIRST.jwks()["keys"][0]
    small = RSAKey.generate_key(1024).as_dict(private=False)
    others = [
        {**good, "kid": "encrypts", "use": "enc"},
        {**good, "kid": "other-alg", "alg": "RS512"},
        {**good, "kid": 7},
        {**good, "kid": "broken", "n": "!"},
        {"kty": "RSA", "kid": "empty"},
        {**small, "kid": "small"},
        {**OctKey.generate_key(256).as_dict(), "kid": "secret"},
        "nonsense",
    ]
    assert list(signing_keys({"keys": [*others, good]})) == ["first"]


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, "x"])
def test_what_is_no_jwks_document_is_no_answer(document: Any) -> None:
    with pytest.raises(ValueError, match="no JWKS"):
        signing_keys(document)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(302, headers={"Location": "http://127.0.0.1:1/evil"}),
        httpx.Response(500),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, content=b"[" + b" " * 300_000 + b"]"),
    ],
)
async def test_redirects_errors_garbage_and_endless_answers_are_outages(response: httpx.Response) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return response

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(IdentityUnavailable):
            await http_jwks(client, "http://issuer/jwks").key("first")
    assert asked == ["http://issuer/jwks"]


async def test_keys_come_over_http() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=FIRST.jwks()))
    async with httpx.AsyncClient(transport=transport) as client:
        assert await http_jwks(client, "http://issuer/jwks").key("first") is not None
