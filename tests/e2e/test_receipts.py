"""Receipts of a running system, as a client sees them: cancelled, told live, and by a webhook."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from kgl_cli.home import Credentials
from kgl_cli.testing import dev_system
from kgl_cli.webhooks import Arrived, Receiver, register
from kgl_client.api import Api
from kgl_contracts.operations import OperationEnded

ENDED = OperationEnded.event_type
REFUSED = "http://127.0.0.1:8099/nobody"


@pytest.fixture(scope="module")
def credentials() -> Iterator[Credentials]:
    with dev_system() as system:
        yield system.start()
        assert system.stop() == 0


@pytest.fixture
def http(credentials: Credentials) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {credentials.api_key}"}
    with httpx.Client(base_url=credentials.url, headers=headers, timeout=70, trust_env=False) as client:
        yield client


def ended(http: httpx.Client, operation: str) -> dict[str, Any]:
    receipt: dict[str, Any] = http.get(f"/operations/v1/{operation}", params={"wait": 60}).json()
    assert receipt["state"] != "running", receipt
    return receipt


def until(probe: Callable[[], Any], within: float = 30.0) -> Any:
    """The first truthy answer."""
    end = time.monotonic() + within
    while not (answer := probe()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return answer


def states(receipt: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["state"] for stage in receipt["stages"]}


def test_the_work_on_a_parsed_document_is_cancelled_and_what_was_made_of_it_stays(http: httpx.Client) -> None:
    # nobody serves this module, so that its request waits
    http.put("/auth/v1/modules/nobody", json={"capabilities": ["extract"]}).raise_for_status()

    def planned() -> dict[str, Any] | None:
        name = str(time.monotonic_ns())
        receipt: dict[str, Any] = http.post("/ingest/v1/documents", json={"text": f"Quinces {name}."}).json()
        return receipt if "graph.extract.nobody" in states(receipt) else None

    receipt = until(planned)
    url = f"/operations/v1/{receipt['id']}"
    until(lambda: states(http.get(url).json()).get("content.draft.reader") == "done")
    assert http.post(f"{url}:cancel").status_code == 202
    cancelled = ended(http, receipt["id"])
    assert cancelled["state"] == "cancelled"
    assert {name: state for name, state in states(cancelled).items() if state != "done"} == {
        "graph.extract.nobody": "cancelled",
        "graph.link.nobody": "cancelled",
    }
    assert http.post(f"{url}:cancel").json()["code"] == "operation_ended"
    hits = http.get("/graph/v1/search", params={"q": "Quinces", "mode": "text"}).json()["hits"]
    assert receipt["subject"] in {hit["document_id"] for hit in hits}
    deleted = http.delete(f"/ingest/v1/documents/{receipt['subject']}").json()
    assert http.post(f"/operations/v1/{deleted['id']}:cancel").status_code == 409
    assert ended(http, deleted["id"])["state"] == "done"
    http.delete("/auth/v1/modules/nobody").raise_for_status()


def test_progress_and_end_of_every_kind_are_told_live(http: httpx.Client, credentials: Credentials) -> None:
    body = {"url": REFUSED, "event_types": ["content.item.published.v1"]}
    endpoint = http.post("/publish/v1/endpoints", json=body).json()
    ticket = http.post("/live/v1/tickets").json()["ticket"]
    with connect(f"{credentials.url.replace('http', 'ws')}/live/v1?ticket={ticket}", proxy=None) as socket:
        uploaded = http.post("/ingest/v1/documents", json={"text": "A text about lighthouses."}).json()
        assert ended(http, uploaded["id"])["state"] == "done"
        operations = {"ingest.document": uploaded["id"]}
        item = http.post("/content/v1/items", json={"title": "Light", "body": "Of a house."})
        for action in ("submit", "approve", "publish"):
            url = f"/content/v1/items/{item.json()['id']}:{action}"
            item = http.post(url, headers={"If-Match": item.headers["ETag"]})
        operations["content.publish"] = item.json()["operation_id"]
        assert ended(http, operations["content.publish"])["state"] == "done"
        http.delete(f"/publish/v1/endpoints/{endpoint['id']}").raise_for_status()
        (delivery,) = http.get("/publish/v1/deliveries", params={"endpoint_id": endpoint["id"]}).json()["items"]
        again = http.post(f"/publish/v1/deliveries/{delivery['id']}:redeliver").json()
        operations["publish.redeliver"] = again["operation_id"]
        assert ended(http, again["operation_id"])["state"] == "failed"  # its endpoint is gone
        operations["ingest.delete"] = http.delete(f"/ingest/v1/documents/{uploaded['subject']}").json()["id"]
        moved: dict[str, set[str]] = {}
        ends: dict[str, tuple[str, str]] = {}
        while not {*operations.values()} <= ends.keys():
            event = json.loads(socket.recv(timeout=30))
            for entry in event["data"].get("entries", ()):
                moved.setdefault(entry["operation_id"], set()).add(entry["stage"])
            if event["type"] == ENDED:
                ends[event["data"]["operation_id"]] = (event["data"]["kind"], event["data"]["state"])
    assert {ends[operation] for operation in operations.values()} == {
        ("ingest.document", "done"),
        ("content.publish", "done"),
        ("publish.redeliver", "failed"),
        ("ingest.delete", "done"),
    }
    for kind, operation in operations.items():
        required = {stage["name"] for stage in ended(http, operation)["stages"] if stage["required"]}
        assert required <= moved[operation], kind


@pytest.mark.timeout(120)
def test_the_end_of_an_operation_arrives_at_a_receiver_that_asked_for_its_kind(
    http: httpx.Client, credentials: Credentials
) -> None:
    async def listen() -> tuple[dict[str, Any], Arrived]:
        arrived: asyncio.Queue[Arrived] = asyncio.Queue()

        async with Api(credentials.url, credentials.api_key) as api:
            endpoint = await register(api, [f"{ENDED}:ingest.delete"])
            async with Receiver(endpoint["secret"], arrived.put):
                uploaded = await api.post("/ingest/v1/documents", {"text": "A text about ferries."})
                await api.get(f"/operations/v1/{uploaded['id']}", params={"wait": 60})
                deleted = await api.request("DELETE", f"/ingest/v1/documents/{uploaded['subject']}")
                one = await asyncio.wait_for(arrived.get(), 60)
            await api.request("DELETE", f"/publish/v1/endpoints/{endpoint['id']}")
        return deleted.json(), one

    deleted, one = asyncio.run(listen())
    told = json.loads(one.body)
    assert (one.verified, told["type"]) == (True, ENDED)
    receipt = ended(http, deleted["id"])
    assert told["data"] == {
        "operation_id": deleted["id"],
        "kind": "ingest.delete",
        "subject": {"type": "document", "id": deleted["subject"]},
        "state": "done",
        "failures": [],
        "started_at": receipt["created_at"],
        "ended_at": receipt["ended_at"],
    }
