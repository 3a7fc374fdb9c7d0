"""A rebuild that is cut off, taken over or refused, and what its swap leaves behind."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import orjson
import pytest
from loguru import logger

from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData
from kgl_contracts.ingest import DocumentParsed, DocumentSnapshotted, DocumentsSnapshotEnded
from kgl_contracts.topics import DOCUMENTS, REPLAY_GRAPH_DOCUMENTS
from kgl_graph.consumers.documents import graph_documents
from kgl_graph.db.search_index import TABLES
from kgl_graph.rebuilds.testing import (
    Source,
    index,
    indexed_texts,
    ordered,
    rebuild,
    rebuild_row,
    stop,
)
from kgl_graph.testing import GraphKit
from kgl_servicekit.bus.port import Record
from kgl_servicekit.events import rebuild_runner
from kgl_servicekit.events.rebuild import RebuildIncomplete, RebuildLost, RebuildRunning, Rebuilt, SourceSilent
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.polling import eventually


@pytest.mark.parametrize("told", [0, 2, None], ids=["before", "within", "after the snapshot"])
async def test_a_rebuild_that_ends_anywhere_is_gone_on_with(graph: GraphKit, source: Source, told: int | None) -> None:
    before = await index(graph)
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    if told != 0:
        await source.snapshot(most=told or len(source.documents))
        wanted = told or len(source.documents)
        await eventually(lambda: _received(graph, wanted))
    await stop(task)
    assert await index(graph) == before
    state = await rebuild_row(graph)
    task = rebuild(graph, source.bus)
    await eventually(lambda: _owner_changed(graph, state["owner"]))
    assert (await rebuild_row(graph))["snapshot_id"] == state["snapshot_id"]
    await source.snapshot()
    assert await task == Rebuilt(1, keys=4)
    assert await index(graph) == before


async def test_a_run_that_ends_while_it_joins_takes_no_part_in_its_group_any_more(
    graph: GraphKit, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    joining, regroup = asyncio.Event(), source.bus.regroup

    async def stuck(topic: str, group: str) -> None:
        if topic == REPLAY_GRAPH_DOCUMENTS.name and not joining.is_set():
            joining.set()
            await asyncio.Event().wait()
        await regroup(topic, group)

    monkeypatch.setattr(source.bus, "regroup", stuck)
    task = rebuild(graph, source.bus)
    await joining.wait()
    await stop(task)
    task = rebuild(graph, source.bus)
    await source.snapshot()
    assert await task == Rebuilt(1, keys=4)


async def _received(graph: GraphKit, count: int) -> bool:
    return bool((await rebuild_row(graph))["received"] == count)


async def _owner_changed(graph: GraphKit, owner: UUID) -> bool:
    return bool((await rebuild_row(graph))["owner"] != owner)


async def test_when_the_bus_has_forgotten_everything_the_next_run_starts_anew(graph: GraphKit, source: Source) -> None:
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await stop(task)
    source.bus.forget(REPLAY_GRAPH_DOCUMENTS.name)
    task = rebuild(graph, source.bus)
    await eventually(lambda: _generation(graph, 2))
    await source.snapshot()
    assert (await task).generation == 2


async def test_when_the_bus_has_trimmed_what_was_not_read_yet_the_next_run_starts_anew(
    graph: GraphKit, source: Source
) -> None:
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await stop(task)
    await source.snapshot()  # half a life later
    for partition, end in (await source.bus.end_offsets(REPLAY_GRAPH_DOCUMENTS.name)).items():
        source.bus.trim(REPLAY_GRAPH_DOCUMENTS.name, partition, end)
    task = rebuild(graph, source.bus)
    await eventually(lambda: _generation(graph, 2))
    await source.snapshot()
    assert (await task).generation == 2


async def _generation(graph: GraphKit, number: int) -> bool:
    return bool((await rebuild_row(graph)).get("generation") == number)


async def test_what_is_left_of_an_earlier_snapshot_is_passed_over(graph: GraphKit, source: Source) -> None:
    before = await index(graph)
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    earlier, document = uuid7(), next(iter(source.documents))
    ghost = await graph.parsed(document, 8, ["a ghost"])
    await source.tell(
        DocumentSnapshotted(
            snapshot_id=earlier,
            document_id=document,
            version=8,
            deleted=False,
            parsed_version=8,
            chunks_object=ghost.chunks_object,
            sha256=ghost.sha256,
        )
    )
    await source.tell(DocumentsSnapshotEnded(snapshot_id=earlier, count=1))
    await source.snapshot()
    assert await task == Rebuilt(1, keys=4)
    assert await index(graph) == before


async def test_one_rebuild_runs_at_a_time_and_one_that_was_taken_over_stops(graph: GraphKit, source: Source) -> None:
    first = rebuild(graph, source.bus)
    await ordered(graph, first)
    with pytest.raises(RebuildRunning):
        await rebuild(graph, source.bus)
    await graph.rows("update rebuild set lease_until = now(), owner = $1 returning name", uuid7())
    with pytest.raises(RebuildLost):
        await first


async def test_while_the_source_of_a_document_cannot_be_read_the_present_index_is_kept(
    graph: GraphKit, source: Source
) -> None:
    before = await index(graph)
    lost = next(parsed for parsed in source.documents.values() if parsed is not None)
    content = await graph.objects.get(lost.chunks_object)
    await graph.objects.delete(lost.chunks_object)
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await source.snapshot()
    with pytest.raises(RebuildIncomplete) as refused:
        await task
    assert refused.value.missing == (f"{graph.workspace}/{lost.document_id}",)
    assert await index(graph) == before
    assert await graph.rows("select to_regclass('chunk_next') as left") == [{"left": None}]
    await graph.objects.put(lost.chunks_object, content)
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await source.snapshot()
    assert (await task).generation == 2


async def _sent(source: Source, *, part: bool, value: bytes) -> None:
    """A part of a snapshot, or its end, that cannot be read."""
    model = DocumentSnapshotted if part else DocumentsSnapshotEnded
    key = str(next(iter(source.documents)))
    envelope = Envelope(
        id=uuid7(),
        type=model.event_type,
        source="ingest",
        time=datetime.now(UTC),
        workspace_id=source.graph.workspace if part else None,
        sequence=1,
    )
    record = Record(topic=REPLAY_GRAPH_DOCUMENTS.name, key=key, headers=envelope.headers(), value=value)
    await source.bus.producer().send([record])


@pytest.mark.parametrize("which", ["part", "end", "a record that says nothing"])
async def test_a_snapshot_that_cannot_be_read_as_a_whole_ends_the_rebuild_and_the_present_index_is_kept(
    graph: GraphKit, source: Source, which: str
) -> None:
    before = await index(graph)
    task = rebuild(graph, source.bus)
    snapshot = (await ordered(graph, task))["snapshot_id"]
    await _sent(source, part=True, value=orjson.dumps({"snapshot_id": str(uuid7()), "version": "of another one"}))
    if which == "end":
        value = orjson.dumps({"snapshot_id": str(snapshot), "count": "four"})
        await _sent(source, part=False, value=value)
    else:
        own = {"snapshot_id": str(snapshot), "document_id": "no id"}
        await _sent(source, part=True, value=orjson.dumps(own) if which == "part" else b"no JSON")
        documents, source.documents = source.documents, dict(list(source.documents.items())[1:])
        await source.snapshot(most=3)
        await source.tell(DocumentsSnapshotEnded(snapshot_id=snapshot, count=len(documents)))
        source.documents = documents
    with pytest.raises(RebuildIncomplete) as refused:
        await task
    first = next(iter(source.documents))
    assert refused.value.missing == (str(first) if which == "end" else f"{graph.workspace}/{first}",)
    assert await index(graph) == before


async def test_a_source_that_is_silent_is_told_of_and_the_rebuild_is_gone_on_with(
    graph: GraphKit, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(line.record["message"] + line.record["extra"].get("what", "")))
    monkeypatch.setattr(rebuild_runner, "_SAID", 0.0)
    monkeypatch.setattr(rebuild_runner, "SILENCE", 1.5)
    try:
        task = rebuild(graph, source.bus)
        with pytest.raises(SourceSilent, match="a worker of ingest has to run, and one of graph"):
            await task
    finally:
        logger.remove(sink)
    (told,) = [line for line in lines if line.startswith("rebuild.waits")]
    assert "the snapshot that ingest has to tell" in told
    monkeypatch.undo()
    task = rebuild(graph, source.bus)
    await source.snapshot()
    assert (await task).generation == 1


async def test_a_snapshot_that_is_not_whole_after_a_day_is_ordered_anew(graph: GraphKit, source: Source) -> None:
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await stop(task)
    await graph.rows("update rebuild set started_at = now() - interval '25 hours' returning name")
    task = rebuild(graph, source.bus)
    await eventually(lambda: _generation(graph, 2))
    await source.snapshot()
    assert (await task).generation == 2


class ParsedLater(
    EventData, type="ingest.document.parsed.v98", topic=DOCUMENTS, key="document_id", replaces=DocumentParsed
):
    """A version that this release does not know."""

    document_id: UUID


async def test_while_an_event_is_of_a_version_that_is_not_known_yet_the_present_index_is_kept(
    graph: GraphKit, source: Source
) -> None:
    before = await index(graph)
    document = next(iter(source.documents))
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await source.tell(ParsedLater(document_id=document))
    await source.snapshot()
    with pytest.raises(RebuildIncomplete) as refused:
        await task
    assert refused.value.missing == (f"{graph.workspace}/{document}",)
    assert await index(graph) == before


async def test_a_document_whose_chunks_are_gone_because_it_is_deleted_keeps_nothing_back(
    graph: GraphKit, source: Source
) -> None:
    document, parsed = next((d, p) for d, p in source.documents.items() if p is not None)
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await graph.objects.delete(parsed.chunks_object)
    await source.snapshot()  # still tells of it: the deletion comes later
    await source.delete(document)
    await task
    assert await indexed_texts(graph) == await source.texts()


async def test_a_corrected_payload_is_used_in_the_place_of_the_first(graph: GraphKit, source: Source) -> None:
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    right = await graph.parsed(uuid7(), 1, ["corrected words"])
    await source.tell(right.model_copy(update={"sha256": "0" * 64}))
    records = [record for n in range(DOCUMENTS.partitions) for record in source.bus.log(DOCUMENTS.name, n)]
    (record,) = [record for record in records if record.key == right.key]
    await graph.rows(
        "insert into correction (subscription, event_id, value, actor) values ($1, $2, $3, 'test') returning 1",
        graph_documents.name,
        UUID(record.headers["ce_id"]),
        right.model_dump_json().encode(),
    )
    await source.snapshot()
    await task
    assert "corrected words" in await indexed_texts(graph)


_CATALOGUE = {
    "policies": """select tablename, policyname, cmd, roles::text, qual, with_check from pg_policies
                   where tablename = any($1)""",
    "secured": """select relname, relrowsecurity, relowner::regrole::text as owner, relacl::text[] as rights
                  from pg_class where relname = any($1) and relkind = 'r'""",
    "indexes": "select tablename, indexname, indexdef from pg_indexes where tablename = any($1)",
    "keys": """select conname, pg_get_constraintdef(oid) as definition from pg_constraint
               where conrelid = any(select to_regclass(name) from unnest($1::text[]) as name)""",
}


async def catalogue(graph: GraphKit) -> dict[str, list[str]]:
    found = {name: await graph.rows(sql, list(TABLES)) for name, sql in _CATALOGUE.items()}
    return {name: sorted(repr(row) for row in rows) for name, rows in found.items()}


async def test_policies_rights_indexes_and_keys_are_the_same_after_the_swap(graph: GraphKit, source: Source) -> None:
    before = await catalogue(graph)
    assert len(before["policies"]) == len(before["secured"]) == len(TABLES)
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    (shadow,) = await graph.rows("select relrowsecurity from pg_class where relname = 'chunk_next'")
    assert shadow == {"relrowsecurity": True}
    await source.snapshot()
    await task
    assert await catalogue(graph) == before
    mine = await graph.client.get("/graph/v1/search", params={"q": "harbour"}, headers=graph.headers)
    assert mine.json()["hits"][0]["snippet"] == "the harbour at night"
    other = graph.authority.user(uuid7())
    theirs = await graph.client.get("/graph/v1/search", params={"q": "harbour"}, headers=other)
    assert theirs.json() == {"hits": []}


async def test_the_functions_take_no_arguments_and_refuse_a_swap_without_fitting_tables(graph: GraphKit) -> None:
    with pytest.raises(asyncpg.RaiseError, match="no shadow tables"):
        await graph.rows("select kgl_rebuild_search_swap()")
    await graph.rows("select kgl_rebuild_search_start()")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await graph.rows("alter table chunk_next add column more text")
    functions = await graph.rows(
        """select proname, pronargs, prosecdef, proconfig::text as config from pg_proc
           where proname like 'kgl_rebuild_search_%'"""
    )
    assert len(functions) == 4
    assert all(f["pronargs"] == 0 and f["prosecdef"] and "search_path" in f["config"] for f in functions)
    await graph.rows("select kgl_rebuild_search_drop()")
