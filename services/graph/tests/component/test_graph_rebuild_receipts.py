"""A rebuild has a receipt of the instance, that ends with it and is taken up by the next run."""

from typing import Any
from uuid import UUID

import pytest

from kgl_contracts.operations import OperationStarted, Progress, ReceiptProgressed
from kgl_contracts.topics import REPLAY_GRAPH_DOCUMENTS
from kgl_graph.rebuilds.links import LinksAnew
from kgl_graph.rebuilds.testing import Source, ordered, rebuild, rebuild_row, stop
from kgl_graph.testing import GraphKit
from kgl_graph.testing_links import linked
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.rebuild import InPlace, RebuildIncomplete
from kgl_servicekit.events.rebuild_runner import rebuild_in_place
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE
from kgl_servicekit.testing.polling import eventually

STAGE = "graph.rebuild.search"


async def begun(graph: GraphKit, source: Source) -> tuple[Any, UUID]:
    """A rebuild that waits for its snapshot, and the operation that it is."""
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    return task, (await rebuild_row(graph))["snapshot_id"]


async def told(graph: GraphKit, operation: UUID) -> list[tuple[str, str | None]]:
    """The states that were reported to its receipt, and the errors."""

    async def read(tx: Transaction, _: None) -> list[Progress]:
        rows = await tx.fetch("select data from outbox_log where type = $1 order by id", ReceiptProgressed.event_type)
        return [entry for row in rows for entry in ReceiptProgressed.model_validate_json(row["data"]).entries]

    entries = [entry for entry in await graph.database.run((), read, None) if entry.operation_id == operation]
    assert {(entry.workspace_id, entry.stage) for entry in entries} <= {(INSTANCE_WORKSPACE, STAGE)}
    return [(entry.state, entry.error) for entry in entries]


async def started(graph: GraphKit) -> list[tuple[UUID, OperationStarted]]:
    sql = "select workspace_id, data from outbox_log where type = $1 order by id"
    rows = await graph.rows(sql, OperationStarted.event_type)
    return [(row["workspace_id"], OperationStarted.model_validate_json(row["data"])) for row in rows]


async def audited(graph: GraphKit) -> list[tuple[str, str, dict[str, int]]]:
    """What the audit log of the instance is told."""

    async def read(tx: Transaction, _: None) -> list[dict[str, Any]]:
        rows = await tx.fetch(
            "select convert_from(data, 'UTF8')::jsonb as data from outbox_log where topic = 'kgl.audit'"
        )
        return [row["data"] for row in rows]

    told = await graph.database.run((), read, None)
    assert {each["scope"] for each in told} <= {"instance"}
    return [(each["action"], each["target"], each["details"]) for each in told]


async def test_the_receipt_of_a_rebuild_is_of_the_instance_and_ends_with_the_swap(
    graph: GraphKit, source: Source
) -> None:
    task, operation = await begun(graph, source)
    assert await told(graph, operation) == [("running", None)]
    await source.snapshot()
    await task
    assert await told(graph, operation) == [("running", None), ("done", None)]
    assert await audited(graph) == [("rebuild.run", "rebuild:graph.search", {"generation": 1, "keys": 4, "missing": 0})]
    ((workspace, start),) = await started(graph)
    assert (workspace, start.operation_id, start.kind) == (INSTANCE_WORKSPACE, operation, "graph.rebuild")
    assert [stage.name for stage in start.stages] == [STAGE]


async def test_a_run_that_is_gone_on_with_has_the_same_receipt(graph: GraphKit, source: Source) -> None:
    task, operation = await begun(graph, source)
    owner = (await rebuild_row(graph))["owner"]
    await stop(task)
    task = rebuild(graph, source.bus)

    async def taken_up() -> bool:
        return bool((await rebuild_row(graph))["owner"] != owner)

    await eventually(taken_up)
    await source.snapshot()
    await task
    assert await told(graph, operation) == [("running", None), ("running", None), ("done", None)]
    assert len(await started(graph)) == 1


async def test_a_run_that_cannot_be_gone_on_with_is_superseded_by_the_next(graph: GraphKit, source: Source) -> None:
    task, lost = await begun(graph, source)
    await stop(task)
    source.bus.forget(REPLAY_GRAPH_DOCUMENTS.name)
    task = rebuild(graph, source.bus)

    async def begun_anew() -> UUID | None:
        operation: UUID = (await rebuild_row(graph))["snapshot_id"]
        return operation if operation != lost else None

    operation = await eventually(begun_anew)
    await source.snapshot()
    await task
    assert await told(graph, lost) == [("running", None), ("superseded", None)]
    assert operation is not None
    assert (await told(graph, operation))[-1] == ("done", None)


async def test_a_rebuild_whose_source_cannot_be_read_fails(graph: GraphKit, source: Source) -> None:
    parsed = next(parsed for parsed in source.documents.values() if parsed is not None)
    await graph.objects.delete(parsed.chunks_object)
    task, operation = await begun(graph, source)
    await source.snapshot()
    with pytest.raises(RebuildIncomplete):
        await task
    assert await told(graph, operation) == [("running", None), ("failed", "source_missing")]
    assert await audited(graph) == [("rebuild.run", "rebuild:graph.search", {"generation": 1, "keys": 4, "missing": 1})]


async def test_a_rebuild_in_place_is_audited_too(graph: GraphKit) -> None:
    await linked(graph)
    links = InPlace(name="links", tables=(), run=LinksAnew(graph.database, graph.objects).run)
    await rebuild_in_place(graph.database, links)
    await graph.rows("update ai_request set result_sha256 = 'x' where result_object is not null returning id")
    with pytest.raises(RebuildIncomplete):
        await rebuild_in_place(graph.database, links)
    target = ("rebuild.run", "rebuild:graph.links")
    assert await audited(graph) == [(*target, {"keys": 1, "missing": 0}), (*target, {"missing": 1})]
