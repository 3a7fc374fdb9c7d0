"""Who gets in, and what everybody else is told."""

from uuid import uuid4

import httpx
import pytest

from kgl_servicekit.errors import Unavailable
from kgl_servicekit.http import PUBLIC, SESSION, ApiRouter, Caller, create_app
from kgl_servicekit.http.testing import ServedForTests, client_of, settings_for_tests
from kgl_servicekit.identity.checked import Checked

WORKSPACE = uuid4()
BASE = "/sample/v1"
router = ApiRouter()


@router.get("/read", permission="documents:read")
async def read(caller: Caller) -> dict[str, str]:
    return {"workspace": str(caller.workspace_id), "principal": caller.principal, "module": str(caller.module)}


@router.post("/write", permission="documents:write")
async def write(body: dict[str, int]) -> dict[str, str]:
    return {"done": "yes"}


@router.get("/any", permission=None)
async def anyone(caller: Caller) -> dict[str, str]:
    return {"workspace": str(caller.workspace_if_named), "user": str(caller.user_id)}


@router.get("/any-with-workspace", permission=None)
async def anyone_somewhere(caller: Caller) -> dict[str, str]:
    return {"workspace": str(caller.workspace_id)}


@router.get("/me", permission=SESSION)
async def me(caller: Caller) -> dict[str, str]:
    return {"user": str(caller.user_id), "until": str(caller.token_expires_at)}


@router.post("/me", permission=SESSION)
async def change_me() -> dict[str, str]:
    return {"done": "yes"}


@router.get("/open", permission=PUBLIC)
async def public() -> dict[str, str]:
    return {"open": "yes"}


@router.get("/open-but", permission=PUBLIC)
async def public_but(caller: Caller) -> dict[str, str]:
    return {"never": caller.principal}


@router.get("/backups", permission="instance:backup")
async def backups(caller: Caller) -> dict[str, list[str]]:
    return {"permissions": sorted(caller.permissions)}


@router.get("/either", permission="documents:read", or_instance="instance:documents")
async def either(caller: Caller) -> dict[str, str]:
    return {"workspace": str(caller.workspace_if_named)}


service = ServedForTests(
    routers=[(BASE, router)], settings=settings_for_tests(cors_origins=("https://app.example.org",))
)
app = create_app(service)


async def ask(method: str, path: str, **options: object) -> httpx.Response:
    async with client_of(app) as client:
        return await client.request(method, BASE + path, **options)  # type: ignore[arg-type]


def is_problem(response: httpx.Response, status: int, code: str) -> bool:
    return (response.status_code, response.json()["code"]) == (status, code)


async def test_without_a_credential_nothing_but_public_routes_answers() -> None:
    for path in ("/read", "/any", "/me", "/backups"):
        refused = await ask("GET", path)
        assert is_problem(refused, 401, "credential_missing")
        assert refused.headers["www-authenticate"] == 'Bearer realm="kgl"'
    assert (await ask("GET", "/open")).json() == {"open": "yes"}


async def test_a_public_route_looks_at_no_credential() -> None:
    assert (await ask("GET", "/open", headers={"Authorization": "Bearer nonsense"})).status_code == 200
    assert (await ask("GET", "/open?token=x")).status_code == 200
    assert is_problem(await ask("GET", "/open-but"), 401, "credential_missing")


async def test_an_unknown_credential_is_refused_and_not_repeated() -> None:
    refused = await ask("GET", "/read", headers={"Authorization": "Bearer s3cret-value"})
    assert is_problem(refused, 401, "token_invalid")
    assert refused.headers["www-authenticate"] == 'Bearer realm="kgl", error="invalid_token"'
    assert "s3cret-value" not in refused.text + str(refused.headers)


async def test_a_user_names_the_workspace_by_header_or_on_get_by_query() -> None:
    headers = service.authority.user(WORKSPACE)
    assert (await ask("GET", "/read", headers=headers)).json()["workspace"] == str(WORKSPACE)
    named = str(WORKSPACE)
    only = {"Authorization": headers["Authorization"]}
    assert (await ask("GET", f"/read?workspace={named}", headers=only)).json()["workspace"] == named
    assert (await ask("GET", f"/read?workspace={named}", headers=headers)).status_code == 200
    refused = await ask("POST", f"/write?workspace={named}", headers=only, json={})
    assert is_problem(refused, 400, "workspace_required")


async def test_without_a_workspace_the_choices_are_told() -> None:
    headers = service.authority.user(WORKSPACE)
    del headers["Kgl-Workspace"]
    refused = await ask("GET", "/read", headers=headers)
    assert is_problem(refused, 400, "workspace_required")
    assert [choice["id"] for choice in refused.json()["choices"]] == [str(WORKSPACE)]
    assert (await ask("GET", "/any", headers=headers)).json()["workspace"] == "None"
    assert is_problem(await ask("GET", "/any-with-workspace", headers=headers), 400, "workspace_required")


async def test_a_permission_of_the_instance_may_do_instead_of_one_in_a_workspace() -> None:
    member = service.authority.user(WORKSPACE, "documents:read")
    assert (await ask("GET", "/either", headers=member)).json()["workspace"] == str(WORKSPACE)
    del member["Kgl-Workspace"]
    assert is_problem(await ask("GET", "/either", headers=member), 400, "workspace_required")
    stranger = service.authority.user(WORKSPACE, "graph:read")
    assert is_problem(await ask("GET", "/either", headers=stranger), 403, "permission_missing")
    operator = service.authority.user(WORKSPACE, "instance:*")
    assert (await ask("GET", "/either", headers=operator)).json()["workspace"] == str(WORKSPACE)
    assert is_problem(await ask("GET", "/read", headers=operator), 403, "permission_missing")
    del operator["Kgl-Workspace"]
    assert (await ask("GET", "/either", headers=operator)).json()["workspace"] == "None"


async def test_two_workspaces_or_a_strange_name_are_refused() -> None:
    headers = service.authority.user(WORKSPACE)
    assert is_problem(await ask("GET", "/read?workspace=other", headers=headers), 400, "workspace_malformed")
    for name in ("-", "a b", "../x", "x" * 65, "ü", ""):
        refused = await ask(
            "GET", "/read", headers={"Authorization": headers["Authorization"]}, params={"workspace": name}
        )
        assert is_problem(refused, 400, "workspace_malformed")
    twice = [*headers.items(), ("Kgl-Workspace", str(uuid4()))]
    assert is_problem(await ask("GET", "/read", headers=twice), 400, "header_repeated")


async def test_a_foreign_workspace_and_one_that_is_not_there_look_alike() -> None:
    mine, foreign = service.authority.user(WORKSPACE), uuid4()
    service.authority.user(foreign)
    answers = []
    for workspace in (foreign, uuid4()):
        refused = await ask("GET", "/read", headers={**mine, "Kgl-Workspace": str(workspace)})
        assert is_problem(refused, 403, "workspace_denied")
        answers.append({**refused.json(), "trace_id": ""})
    assert answers[0] == answers[1]


async def test_an_api_key_brings_its_workspace_and_is_no_user() -> None:
    headers = service.authority.api_key(WORKSPACE, "documents:read", module="tagger")
    answered = (await ask("GET", "/read", headers=headers)).json()
    assert (answered["workspace"], answered["module"]) == (str(WORKSPACE), "tagger")
    assert is_problem(await ask("GET", "/me", headers=headers), 403, "user_required")


async def test_a_missing_permission_is_named() -> None:
    headers = service.authority.user(WORKSPACE, "documents:read")
    refused = await ask("POST", "/write", headers=headers, json={})
    assert is_problem(refused, 403, "permission_missing")
    assert refused.json()["permission"] == "documents:write"


async def test_the_caller_is_checked_before_the_body_is_read() -> None:
    assert is_problem(await ask("POST", "/write", content=b"{"), 401, "credential_missing")
    reader = service.authority.user(WORKSPACE, "documents:read")
    assert is_problem(await ask("POST", "/write", headers=reader, content=b"{"), 403, "permission_missing")


async def test_instance_permissions_need_no_workspace_and_are_not_those_of_owners() -> None:
    operator = service.authority.user(WORKSPACE, "instance:*")
    assert (await ask("GET", "/backups", headers={"Authorization": operator["Authorization"]})).status_code == 200
    owner = service.authority.user(WORKSPACE)
    assert is_problem(await ask("GET", "/backups", headers=owner), 403, "permission_missing")


async def test_two_authorization_headers_are_refused() -> None:
    first, second = service.authority.user(WORKSPACE), service.authority.user(WORKSPACE)
    twice = [*first.items(), ("authorization", second["Authorization"])]
    assert is_problem(await ask("GET", "/read", headers=twice), 400, "header_repeated")


@pytest.mark.parametrize("name", ["access_token", "token", "Access_Token", "id_token", "api_key", "authorization"])
async def test_a_credential_in_the_address_is_refused_even_beside_a_good_one(name: str) -> None:
    headers = service.authority.user(WORKSPACE)
    refused = await ask("GET", f"/read?{name}=s3cret-value", headers=headers)
    assert is_problem(refused, 400, "credential_in_query")
    assert "s3cret-value" not in refused.text


async def test_identity_headers_of_a_proxy_are_not_believed() -> None:
    spoofed = {"X-User-ID": str(uuid4()), "X-Forwarded-User": "root", "X-Real-IP": "127.0.0.1"}
    assert is_problem(await ask("GET", "/read", headers=spoofed), 401, "credential_missing")


async def test_an_outage_of_identity_is_503_and_says_when_to_come_again() -> None:
    headers = service.authority.user(WORKSPACE)
    service.authority.problem = Unavailable(retry_after=1.2)
    try:
        refused = await ask("GET", "/read", headers=headers)
    finally:
        service.authority.problem = None
    assert is_problem(refused, 503, "unavailable")
    assert refused.headers["retry-after"] == "2"


async def test_a_session_cookie_is_nothing_where_sessions_are_not_kept() -> None:
    assert is_problem(await ask("GET", "/me", headers={"Cookie": "kgl_session=abc"}), 401, "credential_missing")


async def test_with_a_session_cookie_changes_must_come_from_our_pages() -> None:
    checked = Checked(principal=f"user:{uuid4()}", user_id=uuid4())
    cookie = service.authority.admit(checked, "Session").removeprefix("Session ")
    service.authority.session_cookie = "kgl_session"
    headers = {"Cookie": f"kgl_session={cookie}"}
    try:
        assert (await ask("GET", "/me", headers=headers)).json()["user"] == str(checked.user_id)
        for origin in ("http://localhost:8080", "https://app.example.org"):
            assert (await ask("POST", "/me", headers={**headers, "Origin": origin})).status_code == 200
        for evil in ({}, {"Origin": "null"}, {"Origin": "https://evil.example"}, {"Origin": "http://localhost:80800"}):
            assert is_problem(await ask("POST", "/me", headers={**headers, **evil}), 403, "origin_refused")
        as_header = {"Authorization": f"Session {cookie}"}
        assert is_problem(await ask("POST", "/me", headers=as_header), 401, "credential_malformed")
        wrong = {"Cookie": "kgl_session=guess"}
        assert is_problem(await ask("GET", "/me", headers=wrong), 401, "token_invalid")
    finally:
        service.authority.session_cookie = None
