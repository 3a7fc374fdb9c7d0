"""The edge of a running system, and live updates over it."""

import json
import re
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from kgl_cli.home import Credentials
from kgl_cli.testing import dev_system


@pytest.fixture(scope="module")
def credentials() -> Iterator[Credentials]:
    with dev_system() as system:
        yield system.start()
        assert system.stop() == 0


@pytest.fixture
def http(credentials: Credentials) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {credentials.api_key}"}
    with httpx.Client(base_url=credentials.url, headers=headers, timeout=30, trust_env=False) as client:
        yield client


def ticket_url(http: httpx.Client, credentials: Credentials, **params: str) -> str:
    ticket = http.post("/live/v1/tickets").json()["ticket"]
    query = "&".join(f"{name}={value}" for name, value in {"ticket": ticket, **params}.items())
    return f"{credentials.url.replace('http', 'ws')}/live/v1?{query}"


def test_a_documents_way_is_seen_live_and_can_be_read_again(http: httpx.Client, credentials: Credentials) -> None:
    with connect(ticket_url(http, credentials), proxy=None) as socket:
        uploaded = http.post("/ingest/v1/documents", json={"text": "A text about harbours."}).json()
        seen: list[dict[str, object]] = []
        while not seen or seen[-1]["type"] != "graph.document.linked.v1":
            seen.append(json.loads(socket.recv(timeout=30)))
    mine = [event["type"] for event in seen if json.dumps(event).find(uploaded["subject"]) > 0]
    assert mine.index("ingest.document.accepted.v1") < mine.index("ingest.document.parsed.v1")
    assert any(event["type"] == "operations.receipt.progressed.v1" for event in seen)
    numbers = [event["number"] for event in seen]
    assert numbers == sorted(set(numbers))  # type: ignore[type-var]
    with connect(ticket_url(http, credentials, after="0"), proxy=None) as socket:
        again = [json.loads(socket.recv(timeout=10)) for _ in seen]
    assert {event["number"] for event in again} >= set(numbers[:1])


def test_a_ticket_works_once_and_only_from_our_pages(http: httpx.Client, credentials: Credentials) -> None:
    url = ticket_url(http, credentials)
    with connect(url, proxy=None):
        pass
    for refused, origin in (
        (url, None),
        (ticket_url(http, credentials), "https://evil.example"),
        (url.partition("?")[0], None),
        (f"{url.partition('?')[0]}?ticket=nonsense", None),
    ):
        with pytest.raises(InvalidStatus) as status, connect(refused, origin=origin, proxy=None):  # type: ignore[arg-type]
            pass
        assert status.value.response.status_code == 403


def test_another_host_is_sent_to_the_public_url(http: httpx.Client, credentials: Credentials) -> None:
    port = credentials.url.rpartition(":")[2]
    read = http.get(f"http://127.0.0.1:{port}/auth/v1/me?x=1")
    assert (read.status_code, read.headers["location"]) == (308, f"{credentials.url}/auth/v1/me?x=1")
    assert http.post(f"http://127.0.0.1:{port}/graph/v1/triples", json={}).json()["code"] == "wrong_host"
    evil = http.get(f"http://127.0.0.1:{port}//evil.example/x")
    assert evil.headers["location"] == f"{credentials.url}/evil.example/x"


def test_inner_paths_are_not_reachable_and_unknown_ones_are_said(http: httpx.Client) -> None:
    for path in ("/metrics", "/health/ready", "/nothing/v1"):
        answer = http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "route_unknown")
    assert "/graph/v1" in http.get("/").json()["apis"]
    assert http.get("/graph/v1/openapi.json").json()["openapi"].startswith("3.1")


def test_no_route_answers_somebody_from_another_workspace(http: httpx.Client, credentials: Credentials) -> None:
    """Every operation of every service, with a key that is bound to one workspace and names another."""
    name = uuid4().hex[:8]
    account = {"email": f"{name}@example.com", "password": f"long enough {name}", "name": "Other"}
    other = httpx.post(f"{credentials.url}/auth/v1/register", json=account).json()["workspace"]["id"]
    called = 0
    for service in ("auth", "ingest", "graph", "content", "publish"):
        for path, operations in http.get(f"/{service}/v1/openapi.json").json()["paths"].items():
            for method, operation in operations.items():
                if not operation.get("security", True) or "x-kgl-permission" not in operation:
                    continue
                url = re.sub(r"\{[^}]*\}", lambda match: "1" if match[0] == "{version}" else str(uuid4()), path)
                answer = http.request(method, url, headers={"Kgl-Workspace": other})
                assert answer.status_code == 403, (method, path, answer.text)
                assert answer.json()["code"] == "workspace_mismatch"
                called += 1
    assert called > 35


def test_a_delete_takes_everything_along_and_its_receipt_ends(http: httpx.Client) -> None:
    uploaded = http.post("/ingest/v1/documents", json={"text": "Zanzibarium is mentioned only here."}).json()
    done = http.get(f"/operations/v1/{uploaded['id']}", params={"wait": 30}).json()
    assert done["state"] == "done"
    deleted = http.delete(f"/ingest/v1/documents/{uploaded['subject']}").json()
    ended = http.get(f"/operations/v1/{deleted['id']}", params={"wait": 30}).json()
    assert (ended["state"], [stage["state"] for stage in ended["stages"]]) == ("done", ["done"] * 3)
    assert http.get("/graph/v1/search", params={"q": "Zanzibarium", "mode": "text"}).json() == {"hits": []}
    drafts = http.get("/content/v1/items", params={"document_id": uploaded["subject"]}).json()["items"]
    assert drafts == []
