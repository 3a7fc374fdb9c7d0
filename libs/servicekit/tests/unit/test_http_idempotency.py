"""The same request twice: one effect, one answer, byte for byte."""

import asyncio
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import File, Response, UploadFile
from pydantic import BaseModel

from kgl_servicekit.errors import Conflict
from kgl_servicekit.http import PUBLIC, ApiRouter, Reply, Run, create_app
from kgl_servicekit.http.testing import FakeDatabase, ServedForTests, client_of
from kgl_servicekit.identity.checked import Checked

BASE = "/sample/v1"
WORKSPACE = uuid4()


class Order(BaseModel):
    title: str


class Made(BaseModel):
    id: UUID
    title: str
    rate: float = 0.1


class Effects:
    """What was done, and a gate that the doing waits for."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def make(self, tx: Any, title: str) -> Made:
        self.made.append(title)
        await self.open.wait()
        if title == "refused":
            raise Conflict
        return Made(id=uuid4(), title=title)


effects = Effects()
router = ApiRouter()


@router.post("/orders", status_code=201, permission="documents:write")
async def order(body: Order, run: Run, response: Response) -> Made:
    response.set_cookie("first", "only")
    response.headers["X-Endpoint"] = "set it"
    return await run(effects.make, body.title, reply=lambda made: Reply({"Location": f"/orders/{made.id}"}, status=202))


@router.post("/orders/{order_id}:confirm", permission="documents:write")
async def confirm(order_id: UUID, run: Run) -> Made:
    return await run(effects.make, str(order_id))


@router.post("/files", status_code=201, permission="documents:write", upload=True)
async def upload(file: Annotated[UploadFile, File()], run: Run) -> Made:
    content = await file.read()
    return await run(effects.make, content.decode())


@router.post("/keys", status_code=201, permission="keys:manage", secret_answer=True)
async def make_key(run: Run) -> Made:
    return await run(effects.make, "secret")


@router.post("/pings", status_code=204, permission=None)
async def ping(run: Run) -> None:
    await run(effects.make, "ping")


@router.post("/pages", permission=None, response_model=None)
async def page(run: Run) -> Response:
    await run.read(effects.make, "page")
    return Response("<p>", media_type="text/html")


@router.post("/public", permission=PUBLIC)
async def public(run: Run) -> Made:
    return await run(effects.make, "public")


@router.post("/twice", permission=None)
async def twice(run: Run) -> Made:
    await run(effects.make, "one")
    return await run(effects.make, "two")


@router.post("/shapeless", permission=None)
async def shapeless(run: Run) -> Made:
    async def wrong(tx: Any, command: None) -> Made:
        effects.made.append("shapeless")
        return {"id": "?"}  # type: ignore[return-value]

    return await run(wrong, None)


@router.put("/orders", permission=None)
async def put_order(run: Run) -> Made:
    return await run(effects.make, "put", reply=lambda made: Reply({"Location": f"/orders/{made.id}"}, status=201))


database = FakeDatabase()
service = ServedForTests(routers=[(BASE, router)], database=database)
app = create_app(service)
USER = service.authority.user(WORKSPACE)


@pytest.fixture(autouse=True)
def _clean() -> None:
    effects.made.clear()
    effects.open.set()
    database.kept.clear()


async def post(path: str, key: str | None = "k1", who: dict[str, str] | None = None, **options: Any) -> httpx.Response:
    headers = {**(who or USER), **({"Idempotency-Key": key} if key else {})}
    async with client_of(app) as client:
        return await client.post(BASE + path, headers=headers, **options)


def is_problem(response: httpx.Response, status: int, code: str) -> bool:
    return (response.status_code, response.json()["code"]) == (status, code)


async def test_the_same_key_and_body_have_one_effect_and_the_same_answer() -> None:
    first, second = [await post("/orders", json={"title": "a"}) for _ in range(2)]
    assert effects.made == ["a"]
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.content == second.content
    assert first.headers["location"] == second.headers["location"] == f"/orders/{first.json()['id']}"
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["content-type"] == first.headers["content-type"] == "application/json"


async def test_what_the_endpoint_adds_by_itself_is_in_the_first_answer_alone() -> None:
    first, second = [await post("/orders", json={"title": "a"}) for _ in range(2)]
    assert first.headers["x-endpoint"] == "set it"
    assert first.cookies["first"] == "only"
    assert "set-cookie" not in second.headers


async def test_without_a_key_each_request_has_its_effect() -> None:
    for _ in range(2):
        assert (await post("/orders", None, json={"title": "a"})).status_code == 202
    assert effects.made == ["a", "a"]
    assert database.kept == {}


async def test_another_body_or_address_with_the_same_key_is_refused() -> None:
    await post("/orders", json={"title": "a"})
    assert is_problem(await post("/orders", json={"title": "b"}), 422, "idempotency_key_reused")
    assert is_problem(await post("/orders?x=1", json={"title": "a"}), 422, "idempotency_key_reused")
    await post(f"/orders/{uuid4()}:confirm", "k2")
    assert is_problem(await post(f"/orders/{uuid4()}:confirm", "k2"), 422, "idempotency_key_reused")
    assert len(effects.made) == 2


async def test_a_key_belongs_to_one_caller_workspace_and_route() -> None:
    await post("/orders", json={"title": "a"})
    await post("/orders", who=service.authority.user(WORKSPACE), json={"title": "a"})
    await post("/orders", who=service.authority.user(uuid4()), json={"title": "a"})
    await post("/keys")
    assert effects.made == ["a", "a", "a", "secret"]
    effects.made.clear()
    for workspace in (uuid4(), uuid4()):
        same = Checked(principal="key:same", workspace_id=workspace, permissions=frozenset({"documents:write"}))
        await post("/orders", who={"Authorization": service.authority.admit(same)}, json={"title": "b"})
    assert effects.made == ["b", "b"]


async def test_of_fifty_twins_one_has_the_effect_and_the_rest_replay_or_wait() -> None:
    effects.open.clear()
    twins = [asyncio.ensure_future(post("/orders", json={"title": "a"})) for _ in range(50)]
    early, _ = await asyncio.wait(twins, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    refused = early.pop().result()
    assert is_problem(refused, 409, "request_in_flight")
    assert refused.headers["retry-after"] == "1"
    effects.open.set()
    answers = await asyncio.gather(*twins)
    assert effects.made == ["a"]
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.content for answer in answers if answer.status_code == 202}) == 1


async def test_only_what_was_committed_is_repeated() -> None:
    for _ in range(2):
        assert is_problem(await post("/orders", json={"title": "refused"}), 409, "conflict")
    assert effects.made == ["refused", "refused"]
    assert is_problem(await post("/orders", json={"nonsense": 1}), 422, "invalid")
    assert database.kept == {}


async def test_an_answer_that_breaks_its_schema_takes_the_effect_along() -> None:
    for key in ("k1", None):
        assert is_problem(await post("/shapeless", key), 500, "internal_error")
    assert effects.made == ["shapeless", "shapeless"]
    assert database.kept == {}


async def test_an_upload_is_the_same_whatever_boundary_its_attempt_drew() -> None:
    answers = [await post("/files", files={"file": ("a.txt", b"hello")}) for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert effects.made == ["hello"]
    for other in (("b.txt", b"hello"), ("a.txt", b"hullo"), ("a.txt", b"hello", "text/html")):
        assert is_problem(await post("/files", files={"file": other}), 422, "idempotency_key_reused")


async def test_an_answer_that_holds_a_secret_is_not_kept_and_not_made_twice() -> None:
    first = await post("/keys")
    assert first.status_code == 201
    assert [row["body"] for row in database.kept.values()] == [b""]
    assert is_problem(await post("/keys"), 409, "answer_not_kept")
    assert effects.made == ["secret"]


async def test_an_empty_answer_is_repeated_too() -> None:
    answers = [await post("/pings") for _ in range(2)]
    assert [(answer.status_code, answer.content) for answer in answers] == [(204, b""), (204, b"")]
    assert effects.made == ["ping"]


async def test_where_answers_are_no_models_or_callers_nobody_the_key_is_without_effect() -> None:
    for path in ("/pages", "/public"):
        for _ in range(2):
            assert (await post(path)).status_code == 200
    assert effects.made == ["page", "page", "public", "public"]
    assert database.kept == {}


@pytest.mark.parametrize("key", ["k" * 256, "tab\tbed", "kéy", "\x7f"])
async def test_a_key_is_printable_ascii_of_up_to_255_characters(key: str) -> None:
    who = {**USER, "Idempotency-Key": key.encode("latin-1")}
    refused = await post("/orders", None, who=who, json={"title": "a"})  # type: ignore[arg-type]
    assert is_problem(refused, 400, "idempotency_key_malformed")
    assert effects.made == []
    assert (await post("/orders", "k" * 255, json={"title": "a"})).status_code == 202


async def test_two_keys_are_refused() -> None:
    headers = [*USER.items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    async with client_of(app) as client:
        refused = await client.post(f"{BASE}/orders", headers=headers, json={"title": "a"})
    assert is_problem(refused, 400, "idempotency_key_malformed")


async def test_an_endpoint_that_runs_twice_under_post_is_an_error() -> None:
    assert is_problem(await post("/twice", None), 500, "internal_error")
    assert effects.made == ["one"]


async def test_other_methods_answer_what_the_use_case_says_and_keep_nothing() -> None:
    async with client_of(app, headers={**USER, "Idempotency-Key": "k1"}) as client:
        answers = [await client.put(f"{BASE}/orders") for _ in range(2)]
    assert {answer.status_code for answer in answers} == {201}
    assert answers[0].headers["location"] == f"/orders/{answers[0].json()['id']}"
    assert effects.made == ["put", "put"]
    assert database.kept == {}


async def test_a_use_case_runs_in_the_callers_workspace_for_the_callers_reason() -> None:
    database.causes.clear()
    parent = "00-11111111111111111111111111111111-2222222222222222-01"
    async with client_of(app, headers={**USER, "traceparent": parent}) as client:
        await client.post(f"{BASE}/orders", json={"title": "a"})
        await client.post(f"{BASE}/public")
    named, nobody = database.causes
    assert named is not None
    assert nobody is not None
    assert named.actor.startswith("user:")
    assert named.traceparent is not None
    assert named.traceparent.startswith("00-11111111111111111111111111111111-")
    assert (named.kind, named.id.version) == ("request", 7)
    assert nobody.actor == "service:sample"
    assert named.id != nobody.id
