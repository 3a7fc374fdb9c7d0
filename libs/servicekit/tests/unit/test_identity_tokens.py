"""Attacks on access tokens, each against the real verifier with an own key."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any
from uuid import uuid4

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, RSAKey

from kgl_servicekit.identity.credential import AccessToken
from kgl_servicekit.identity.jwks import CachedJwks
from kgl_servicekit.identity.problems import IdentityUnavailable, TokenExpired, TokenInvalid
from kgl_servicekit.identity.testing import ISSUER, TokenSigner
from kgl_servicekit.identity.tokens import KEYCLOAK, TokenVerifier

SIGNER = TokenSigner()
USER = uuid4()
OTHER_KEY = RSAKey.generate_key(2048)


def verifier(**options: Any) -> TokenVerifier:
    return TokenVerifier(SIGNER, ISSUER, **options)


async def refused(token: str, problem: type[Exception] = TokenInvalid, **options: Any) -> None:
    with pytest.raises(problem):
        await verifier(**options).verify(AccessToken(token))


def encoded(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def hand_made(header: Any, claims: Any, signature: bytes = b"x") -> str:
    return f"{encoded(header)}.{encoded(claims)}.{encoded(signature)}"


async def test_a_good_token_names_its_user_session_and_end() -> None:
    user = uuid4()
    claims = await verifier().verify(AccessToken(SIGNER.token(user, exp=int(time.time()) + 60)))
    assert claims.user_id == user
    assert claims.session_id == "session-1"
    assert 50 < claims.expires_at - time.time() <= 60


async def test_a_token_with_an_audience_list_that_holds_us_and_a_long_type_name_is_good() -> None:
    token = SIGNER.token(uuid4(), {"typ": "application/at+jwt"}, aud=["account", "kgl"], sid=None)
    assert (await verifier().verify(AccessToken(token))).session_id is None


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "", None, "RS384", "PS256"])
async def test_no_other_algorithm_than_ours_is_taken(alg: str | None) -> None:
    header = {"alg": alg, "typ": "at+jwt", "kid": SIGNER.kid}
    await refused(hand_made(header, SIGNER.claims(), b""))
    await refused(hand_made(header, SIGNER.claims()))


async def test_a_token_without_an_algorithm_is_refused() -> None:
    await refused(hand_made({"typ": "at+jwt", "kid": SIGNER.kid}, SIGNER.claims(), b""))


@pytest.mark.parametrize("form", ["pem", "der", "jwk"])
async def test_the_public_key_is_no_hmac_secret(form: str) -> None:
    secret = {
        "pem": SIGNER.private.as_pem(private=False),
        "der": SIGNER.private.as_der(private=False),
        "jwk": json.dumps(SIGNER.private.as_dict(private=False)).encode(),
    }[form]
    body = f"{encoded({'alg': 'HS256', 'typ': 'at+jwt', 'kid': SIGNER.kid})}.{encoded(SIGNER.claims())}"
    signature = hmac.new(secret, body.encode(), hashlib.sha256).digest()
    await refused(f"{body}.{encoded(signature)}")


async def test_a_token_that_names_a_key_of_another_kind_or_is_signed_with_another_key_is_refused() -> None:
    curve = ECKey.generate_key("P-256")
    document = SIGNER.jwks()
    document["keys"].append({**curve.as_dict(private=False), "kid": "curve"})

    async def fetch() -> Any:
        return document

    keys = TokenVerifier(CachedJwks(fetch), ISSUER)
    for header, key in (
        ({"alg": "ES256", "typ": "at+jwt", "kid": SIGNER.kid}, curve),
        ({"alg": "ES256", "typ": "at+jwt", "kid": "curve"}, curve),
        ({"alg": "RS256", "typ": "at+jwt", "kid": "curve"}, SIGNER.private),
        ({"alg": "RS256", "typ": "at+jwt", "kid": SIGNER.kid}, OTHER_KEY),
    ):
        token = jwt.encode(header, SIGNER.claims(), key, algorithms=["RS256", "ES256"], default_type=None)
        with pytest.raises(TokenInvalid):
            await keys.verify(AccessToken(token))
    assert (await keys.verify(AccessToken(SIGNER.token()))).session_id == "session-1"


@pytest.mark.parametrize("member", ["jku", "x5u", "jwk", "x5c", "crit", "b64", "zip", "x"])
async def test_a_token_that_brings_its_own_key_or_rules_is_refused_before_any_key_is_looked_up(member: str) -> None:
    asked: list[str] = []

    class Watched:
        async def key(self, kid: str) -> RSAKey | None:
            asked.append(kid)
            return SIGNER.private

    values: dict[str, Any] = {"jwk": OTHER_KEY.as_dict(private=False), "x5c": ["AA=="], "crit": ["exp"], "b64": False}
    header = {"alg": "RS256", "typ": "at+jwt", "kid": SIGNER.kid, member: values.get(member, "http://127.0.0.1:1/k")}
    token = hand_made(header, SIGNER.claims())
    with pytest.raises(TokenInvalid):
        await TokenVerifier(Watched(), ISSUER).verify(AccessToken(token))
    assert asked == []


@pytest.mark.parametrize("kid", ["../../etc/passwd", "' or 1=1 --", "k" * 129, "", 7, None, ["a"], "ключ"])
async def test_a_strange_key_id_is_refused(kid: Any) -> None:
    await refused(hand_made({"alg": "RS256", "typ": "at+jwt", "kid": kid}, SIGNER.claims()))


async def test_a_header_of_ten_kilobytes_or_with_a_repeated_member_is_refused() -> None:
    await refused(hand_made({"alg": "RS256", "typ": "at+jwt", "kid": "k" * 10_000}, SIGNER.claims()))
    twice = b'{"alg":"none","alg":"RS256","typ":"at+jwt","kid":"test-key"}'
    await refused(hand_made(twice, SIGNER.claims()))
    for header in (b"[]", b"null", b"\xff", b"[" * 300):
        await refused(hand_made(header, SIGNER.claims()))


@pytest.mark.parametrize("typ", ["JWT", "jwt", "id+jwt", "Refresh", "logout+jwt", "", None, 1])
async def test_an_id_token_or_refresh_token_is_no_access_token(typ: Any) -> None:
    await refused(SIGNER.token(uuid4(), {"typ": typ} if isinstance(typ, str) else {"typ": "JWT"}))
    await refused(hand_made({"alg": "RS256", "typ": typ, "kid": SIGNER.kid}, SIGNER.claims()))


NOW = int(time.time())


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": None},
        {"exp": str(NOW + 60)},
        {"exp": True},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": 1e308},
        {"exp": 10**400},
        {"exp": [NOW + 60]},
        {"exp": NOW + 2 * 24 * 3600},
        {"iat": None},
        {"iat": "yesterday"},
        {"iat": NOW + 3600},
        {"nbf": NOW + 3600},
        {"nbf": "soon"},
        {"nbf": float("nan")},
    ],
)
async def test_a_token_with_impossible_times_is_refused(changes: dict[str, Any]) -> None:
    await refused(SIGNER.token(uuid4(), **changes))


async def test_an_expired_token_says_so_and_there_is_no_leeway_for_the_end() -> None:
    await refused(SIGNER.token(exp=int(time.time()) - 1, iat=int(time.time()) - 300), TokenExpired)


async def test_a_clock_that_is_half_a_minute_ahead_is_forgiven() -> None:
    ahead = int(time.time()) + 25
    assert (await verifier().verify(AccessToken(SIGNER.token(USER, iat=ahead, nbf=ahead)))).user_id == USER


@pytest.mark.parametrize(
    "issuer",
    [f"{ISSUER}/", ISSUER[:-1], f"{ISSUER}x", ISSUER.replace("oidc", "other"), ISSUER.upper(), None, [ISSUER], ""],
)
async def test_only_the_exact_issuer_is_ours(issuer: Any) -> None:
    await refused(SIGNER.token(uuid4(), iss=issuer))


@pytest.mark.parametrize("audience", [None, "KGL", "kgl ", "kgl2", ["account"], [], [["kgl"]], {"kgl": 1}, True])
async def test_only_tokens_for_us_are_taken(audience: Any) -> None:
    await refused(SIGNER.token(uuid4(), aud=audience))


async def test_a_token_of_another_client_is_refused_where_clients_are_listed() -> None:
    await refused(SIGNER.token(azp="evil"), clients=frozenset({"web"}))
    await refused(SIGNER.token(azp=None), clients=frozenset({"web"}))
    assert (await verifier(clients=frozenset({"web"})).verify(AccessToken(SIGNER.token(USER)))).user_id == USER


@pytest.mark.parametrize("sub", [None, "", "admin", "x" * 36, 5, "00000000000000000000000000000000", ["a"]])
async def test_a_subject_that_is_no_user_id_is_refused(sub: Any) -> None:
    await refused(SIGNER.token(**{"sub": sub}))


@pytest.mark.parametrize("sid", ["", "s" * 256, 5, ["a"]])
async def test_a_session_that_is_no_name_is_refused(sid: Any) -> None:
    await refused(SIGNER.token(sid=sid))


@pytest.mark.parametrize("payload", [b"[]", b"null", b"no", b"[" * 100_000])
async def test_a_signed_payload_that_is_no_object_is_refused(payload: bytes) -> None:
    header = {"alg": "RS256", "typ": "at+jwt", "kid": SIGNER.kid}
    await refused(jws.serialize_compact(header, payload, SIGNER.private))


async def test_a_changed_payload_or_a_cut_signature_is_refused_also_after_the_original_was_seen() -> None:
    known = verifier()
    token = SIGNER.token()
    await known.verify(AccessToken(token))
    header, _, signature = token.split(".")
    for changed in (
        f"{header}.{encoded(SIGNER.claims())}.{signature}",
        f"{header}.{token.split('.')[1]}.{signature[:-4]}",
        f"{header}.{token.split('.')[1]}.",
    ):
        with pytest.raises(TokenInvalid):
            await known.verify(AccessToken(changed))
    assert len(known) == 1


async def test_a_verified_token_is_known_again_but_never_after_its_end() -> None:
    now = time.time()
    clock = [now]
    known = verifier(now=lambda: clock[0])
    token = AccessToken(SIGNER.token(exp=int(now) + 60))
    first = await known.verify(token)
    assert await known.verify(token) is first
    clock[0] = now + 61
    with pytest.raises(TokenExpired):
        await known.verify(token)
    assert len(known) == 0


async def test_a_verified_token_falls_with_its_key() -> None:
    current: dict[str, RSAKey] = {SIGNER.kid: SIGNER.private}

    class Rotating:
        async def key(self, kid: str) -> RSAKey | None:
            return current.get(kid)

    known = TokenVerifier(Rotating(), ISSUER)
    token = AccessToken(SIGNER.token())
    await known.verify(token)
    current[SIGNER.kid] = OTHER_KEY
    with pytest.raises(TokenInvalid):
        await known.verify(token)
    current.clear()
    with pytest.raises(TokenInvalid):
        await known.verify(token)


async def test_the_memory_of_verified_tokens_is_bounded() -> None:
    known = verifier(size=3)
    for _ in range(5):
        await known.verify(AccessToken(SIGNER.token()))
    assert len(known) == 3


async def test_when_the_issuers_keys_cannot_be_had_nobody_is_called_invalid() -> None:
    class Out:
        async def key(self, kid: str) -> RSAKey | None:
            raise IdentityUnavailable(retry_after=5)

    with pytest.raises(IdentityUnavailable):
        await TokenVerifier(Out(), ISSUER).verify(AccessToken(SIGNER.token()))


async def test_keycloaks_access_tokens_are_told_by_a_claim_from_all_else_that_it_signs() -> None:
    keycloak = verifier(marks=KEYCLOAK)
    for header in ("JWT", "at+jwt"):
        token = SIGNER.token(USER, {"typ": header}, typ="Bearer")
        assert (await keycloak.verify(AccessToken(token))).user_id == USER
    for claim in ("ID", "Refresh", "Offline", "Logout", "DPoP", "bearer", "", None, 1, ["Bearer"]):
        for header in ("JWT", "at+jwt"):
            await refused(SIGNER.token(USER, {"typ": header}, typ=claim), marks=KEYCLOAK)
    await refused(SIGNER.token(USER, {"typ": "logout+jwt"}, typ="Bearer"), marks=KEYCLOAK)
    await refused(SIGNER.token(USER, {"typ": "JWT"}, typ="Bearer", aud="account"), marks=KEYCLOAK)
    await refused(SIGNER.token(USER, {"typ": "JWT"}, typ="Bearer"))
