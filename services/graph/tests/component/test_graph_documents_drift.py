"""Documents in graph against what ingest tells of them: each difference is found, repaired, and gone."""

import asyncio
from uuid import UUID

import pytest

from kgl_contracts.operations import SnapshotRequested
from kgl_graph.drift import drift_checks
from kgl_graph.rebuilds.testing import Source, in_peace, indexed_texts, working
from kgl_graph.testing import GraphKit, deleted
from kgl_servicekit.drift import snapshots
from kgl_servicekit.drift.check import DriftCheck
from kgl_servicekit.drift.run import run_check
from kgl_servicekit.drift.table import DriftResult
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.polling import eventually


def check(source: Source) -> DriftCheck:
    graph, bus = source.graph, source.bus
    vectors, settings = graph.service.outside.vectors, graph.service.settings
    made = drift_checks(graph.database, bus, graph.objects, vectors, settings)  # type: ignore[arg-type]
    (found,) = [each for each in made if each.name == "graph.documents"]
    return found


async def orders(graph: GraphKit) -> list[UUID]:
    rows = await graph.rows(
        "select convert_from(data, 'UTF8')::jsonb ->> 'snapshot_id' as id from outbox_log where type = $1 order by id",
        SnapshotRequested.event_type,
    )
    return [UUID(row["id"]) for row in rows]


async def begun(source: Source, *, repair: bool = False) -> "tuple[asyncio.Task[DriftResult], UUID]":
    """A look that waits for its snapshot."""
    before = await orders(source.graph)
    task = asyncio.create_task(run_check(source.graph.database, check(source), repair=repair, pause=0))

    async def ordered() -> list[UUID]:
        return [order for order in await orders(source.graph) if order not in before]

    (order,) = await eventually(ordered)
    return task, order


async def look(source: Source, *, repair: bool = False) -> list[str]:
    """How documents differ; nothing when all is well."""
    task, order = await begun(source, repair=repair)
    await source.snapshot(snapshot_id=order)
    result = await task
    assert result.error is None
    assert result.repaired == (result.items if repair else 0)
    assert not [group for _, group, _ in source.bus.committed if "@" in group]
    return sorted(example.partition(": ")[2] for example in result.examples)


async def test_documents_as_ingest_tells_of_them_are_no_drift(source: Source) -> None:
    assert await look(source) == []


LOST = {
    "an indexed document": (
        "delete from indexed_document where document_id = $1",
        "version 1 cannot be found",
    ),
    "a document that was never heard of": (
        """with gone as (delete from indexed_document where document_id = $1),
                chunks as (delete from chunk where document_id = $1) delete from document where document_id = $1""",
        "version 1 cannot be found",
    ),
    "a chunk": (
        "delete from chunk where id = (select min(id::text)::uuid from chunk where document_id = $1)",
        "the chunks of version 1 are not all there",
    ),
    "chunks that are of another version": (
        "update chunk set version = 7 where document_id = $1",
        "the chunks of version 1 are not all there",
    ),
}


@pytest.mark.parametrize("seed", LOST)
async def test_what_is_lost_of_a_document_is_found_and_indexed_again(
    graph: GraphKit, source: Source, seed: str
) -> None:
    document = next(iter(source.documents))
    sql, state = LOST[seed]
    await graph.rows(f"{sql} returning 1", document)
    assert await look(source) == [state]
    assert await look(source, repair=True) == [state]
    await in_peace(graph, source)
    assert await look(source) == []
    assert await indexed_texts(graph) == await source.texts()


async def test_a_deletion_that_never_came_and_a_document_that_nobody_knows(graph: GraphKit, source: Source) -> None:
    document, *_, gone = source.documents
    source.documents[document] = None  # deleted, and the event is lost
    old = UUID(int=uuid7().int - (7200_000 << 80))
    for strange in (old, uuid7()):
        sql = "insert into document (workspace_id, document_id, version, parsed_version) values ($1, $2, 1, 1)"
        await graph.rows(f"{sql} returning 1", graph.workspace, strange)
    expected = sorted(["is deleted at its source", snapshots.STRANGER])
    assert await look(source) == expected
    assert await look(source, repair=True) == expected
    await in_peace(graph, source)
    assert await look(source) == []
    assert await indexed_texts(graph) == await source.texts()
    assert gone in source.documents


async def test_what_changes_while_it_looks_is_no_drift(graph: GraphKit, source: Source) -> None:
    first, second, *_ = source.documents
    task, order = await begun(source)
    await source.upload("changed words", document=first, version=2)  # told as such, and not yet heard of perhaps
    await source.upload("came before its turn")
    await source.snapshot(snapshot_id=order)
    await source.upload("other words", document=second, version=2)  # told as version 1
    await source.upload("came after the snapshot")
    result = await task
    assert (result.items, result.error) == (0, None)


async def test_what_was_told_before_newer_news_came_is_no_drift(graph: GraphKit, source: Source) -> None:
    changed, gone, *_ = source.documents
    told = dict(source.documents)
    await source.upload("newer words", document=changed, version=2)
    source.documents[gone] = None
    await source.tell(deleted(gone, 1))  # of the version that was told, as ingest says
    await in_peace(graph, source)
    now, source.documents = source.documents, told  # as a snapshot that is read late tells them
    assert await look(source) == []
    source.documents = now
    assert await look(source) == []


async def test_an_owner_that_is_silent_and_a_subscription_that_is_behind_are_told_of(
    graph: GraphKit, bus: "object", monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(graph, bus)  # type: ignore[arg-type]
    monkeypatch.setattr(snapshots, "_PATIENCE", 0.0)
    task, _ = await begun(source)
    assert (await task).error == f"SourceSilent: {snapshots.SourceSilent.sentence}"
    monkeypatch.setattr(snapshots, "_PATIENCE", 1.0)
    await source.upload("nobody hears this")
    task, order = await begun(source)
    await source.snapshot(snapshot_id=order)
    assert (await task).error == f"Behind: {snapshots.Behind.sentence}"
    async with working(graph, source.bus):
        await in_peace(graph, source)
        assert await look(source) == []
