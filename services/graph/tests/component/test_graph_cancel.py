"""The work on a version is cancelled: what no module has answered is withdrawn, what was answered is used."""

import asyncio
from dataclasses import asdict
from typing import Any
from uuid import UUID, uuid4

import pytest

from kgl_contracts.ai import ExtractedEntity, Extraction, ExtractionCompleted, Span
from kgl_contracts.event import EventData
from kgl_contracts.ingest import DocumentCancelled
from kgl_graph.db.tables import METADATA
from kgl_graph.testing import GraphKit, accepted, chunk_id, deleted
from kgl_graph.use_cases.answer_request import Complete, Held, complete_request
from kgl_graph.use_cases.hear_document import hear_cancelled
from kgl_servicekit.database.core_schema import CORE_TABLES
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, SUPERSEDED
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.modules import told_stages
from kgl_servicekit.testing.orders import dump, empty, interleavings, jobs_left
from kgl_servicekit.testing.races import held_open, until_waiting

DOCUMENT = UUID("0198f3a0-0000-7000-8000-0000000000cc")
OPERATION, SECOND, THIRD = (UUID(f"0198f3a0-0000-7000-8000-0000000000d{n}") for n in range(3))
TABLES = sorted(set(METADATA.tables) - set(CORE_TABLES))
WITHOUT = frozenset({"search"})
WITHDRAWN = dict.fromkeys(
    ("graph.extract.reader", "graph.link.reader", "graph.summarise.reader", "content.draft.reader", "publish.live"),
    "cancelled",
)
FOUND = Extraction(
    entities=(
        ExtractedEntity(name="Ada", type="person", mentions=(Span(chunk_id=chunk_id(DOCUMENT, 1, 0), start=0, end=3),)),
    )
)


def cancelled(version: int = 1) -> DocumentCancelled:
    return DocumentCancelled(document_id=DOCUMENT, version=version)


async def answer(graph: GraphKit, leased: dict[str, Any]) -> tuple[int, str | None]:
    """Give the result of a leased request over HTTP; status, and the code of a refusal."""
    body = {"token": leased["token"], "extraction": FOUND.model_dump(mode="json")}
    url = f"/modules/v1/jobs/{leased['id']}:complete"
    given = await graph.client.post(url, json=body, headers=graph.headers)
    return given.status_code, None if given.status_code == 204 else given.json()["code"]


async def requests(graph: GraphKit) -> dict[str, str]:
    rows = await graph.rows("select capability, state from ai_request where version = 1")
    return {row["capability"]: row["state"] for row in rows}


async def linked(graph: GraphKit) -> ExtractionCompleted:
    """What graph told of the answer."""
    (row,) = await graph.rows("select data from outbox_log where type = $1", ExtractionCompleted.event_type)
    return ExtractionCompleted.model_validate_json(row["data"])


@pytest.mark.parametrize("at_once", [True, False], ids=["jobs at once", "jobs at the end"])
async def test_what_nobody_has_answered_is_withdrawn_and_the_document_can_be_found(
    graph: GraphKit, at_once: bool
) -> None:
    events: list[EventData] = [accepted(DOCUMENT, 1), await graph.parsed(DOCUMENT, 1, ["Ada wrote"])]
    for event in events:
        await graph.hear(event, OPERATION)
        if at_once:
            await graph.work()
    assert await graph.hear(cancelled(), OPERATION) == DONE
    assert await graph.hear(cancelled(), OPERATION, copy=1) == SUPERSEDED
    await graph.work()
    assert await requests(graph) == {"extract": "cancelled", "summarise": "cancelled"}
    assert await told_stages(graph.database, OPERATION) == {**WITHDRAWN, "graph.index": "done"}
    assert await graph.lease("extract", "summarise") == []
    hits = await graph.client.get("/graph/v1/search", params={"q": "Ada", "mode": "text"}, headers=graph.headers)
    assert [hit["snippet"] for hit in hits.json()["hits"]] == ["Ada wrote"]


async def test_who_works_on_a_request_that_is_withdrawn_loses_its_lease(graph: GraphKit) -> None:
    await graph.hear(await graph.parsed(DOCUMENT, 1, ["Ada wrote"]), OPERATION)
    await graph.work()
    (leased,) = await graph.lease("extract")
    await graph.hear(cancelled(), OPERATION)
    beat = await graph.client.post(
        f"/modules/v1/jobs/{leased['id']}:heartbeat", json={"token": leased["token"]}, headers=graph.headers
    )
    assert (beat.status_code, beat.json()["code"]) == (409, "lease_lost")
    assert await answer(graph, leased) == (409, "lease_lost")
    assert await graph.rows("select 1 from outbox_log where type = $1", ExtractionCompleted.event_type) == []


async def after(graph: GraphKit, order: list[str], *, at_once: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """All that graph holds, and what it told, after an extraction was answered and then this was heard, in order."""
    await graph.database.run(graph.workspace, empty, TABLES)
    await graph.hear(await graph.parsed(DOCUMENT, 1, ["Ada wrote"]), OPERATION)
    await graph.work()
    (leased,) = await graph.lease("extract")
    assert await answer(graph, leased) == (204, None)
    known: dict[str, tuple[EventData, UUID]] = {
        "x1": (await linked(graph), OPERATION),
        "c1": (cancelled(), OPERATION),
        "c1 again": (cancelled(), OPERATION),
        "p2": (await graph.parsed(DOCUMENT, 2, ["Bob read"]), SECOND),
        "c2": (cancelled(2), SECOND),
        "d": (deleted(DOCUMENT, 2), THIRD),
    }
    for n, name in enumerate(order):
        await graph.hear(*known[name], copy=n)
        if at_once:
            await graph.work()
    await graph.work()
    assert await graph.database.run((), jobs_left, None) == []
    held = await graph.database.run(graph.workspace, lambda tx, _: dump(tx, TABLES, WITHOUT), None)
    return held, await told_stages(graph.database, OPERATION)


async def test_an_answer_that_came_before_is_linked_in_every_order_of_what_follows(graph: GraphKit) -> None:
    """Topics have no order among each other: the answer's event comes before the cancellation, between, or after it."""
    seen = [
        await after(graph, order, at_once=at_once)
        for order in interleavings(("c1", "c1 again"), ("x1",))
        for at_once in (True, False)
    ]
    assert all(each == seen[0] for each in seen)
    held, told = seen[0]
    assert [row["name"] for row in held["entity"]] == ["Ada"]
    assert {row["capability"]: row["state"] for row in held["ai_request"]} == {
        "extract": "done",
        "summarise": "cancelled",
    }
    ended = {**WITHDRAWN, **dict.fromkeys(("graph.index", "graph.extract.reader", "graph.link.reader"), "done")}
    assert told == ended


@pytest.mark.parametrize("following", [("c1", "p2", "c2"), ("c1", "d"), ("c1", "p2", "c2", "d")], ids=str)
async def test_a_cancelled_version_that_is_replaced_or_deleted_ends_in_one_state(
    graph: GraphKit, following: tuple[str, ...]
) -> None:
    # an answer that is used before the next version is parsed stays until that one has answers of its own
    orders = [order for order in interleavings(following, ("x1",)) if order[0] != "x1" and order[1] != "x1"]
    seen = [await after(graph, order, at_once=at_once) for order in orders for at_once in (True, False)]
    assert all(held == seen[0][0] for held, _ in seen)
    for _, told in seen:
        assert told["graph.link.reader"] == "superseded"
        assert told["graph.summarise.reader"] == told["content.draft.reader"] == "cancelled"


async def test_an_answer_and_a_cancellation_at_the_same_time_have_one_winner(graph: GraphKit) -> None:
    await graph.hear(await graph.parsed(DOCUMENT, 1, ["Ada wrote"]), OPERATION)
    await graph.work()
    (leased,) = await graph.lease("extract")
    held = Held(id=UUID(leased["id"]), token=leased["token"], module=None)
    given = Complete(**asdict(held), result=FOUND, object="results/1", sha256="0" * 64)
    async with held_open(graph.database, graph.workspace, complete_request, given) as answering:
        cancelling = asyncio.create_task(graph.hear(cancelled(), OPERATION))
        await until_waiting(graph.database)
    await asyncio.gather(answering, cancelling)
    assert await requests(graph) == {"extract": "done", "summarise": "cancelled"}
    assert "graph.link.reader" not in await told_stages(graph.database, OPERATION)


async def test_an_answer_that_waits_for_a_cancellation_is_refused(graph: GraphKit) -> None:
    await graph.hear(await graph.parsed(DOCUMENT, 1, ["Ada wrote"]), OPERATION)
    await graph.work()
    (leased,) = await graph.lease("extract")
    async with held_open(graph.database, graph.workspace, hear_cancelled, cancelled()) as cancelling:
        answering = asyncio.create_task(answer(graph, leased))
        await until_waiting(graph.database)
    assert (await asyncio.gather(cancelling, answering))[1] == (409, "lease_lost")
    assert await requests(graph) == {"extract": "cancelled", "summarise": "cancelled"}


async def test_a_cancellation_that_dies_with_its_worker_is_done_when_it_comes_again(graph: GraphKit) -> None:
    await graph.hear(await graph.parsed(DOCUMENT, 1, ["Ada wrote"]), OPERATION)

    class Died(Exception):
        pass

    async def dying(tx: Transaction, event: DocumentCancelled) -> None:
        await hear_cancelled(tx, event)
        raise Died

    with pytest.raises(Died):
        await graph.database.run(graph.workspace, dying, cancelled())
    assert set((await requests(graph)).values()) == {"waiting"}
    assert await graph.hear(cancelled(), OPERATION) == DONE
    assert set((await requests(graph)).values()) == {"cancelled"}
    assert (await told_stages(graph.database, OPERATION)) == WITHDRAWN


async def test_another_version_another_document_and_another_workspace_are_left_alone(graph: GraphKit) -> None:
    other = uuid4()
    await graph.hear(await graph.parsed(DOCUMENT, 2, ["Ada wrote"]), OPERATION)
    await graph.hear(await graph.parsed(other, 1, ["Bob read"]))
    own, graph.workspace = graph.workspace, uuid7()
    assert await graph.hear(cancelled(2)) == SUPERSEDED
    graph.workspace = own
    assert await graph.hear(cancelled(1)) == SUPERSEDED
    assert {row["state"] for row in await graph.rows("select state from ai_request")} == {"waiting"}
