"""The search index is built anew while documents come, change and go."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData
from kgl_contracts.ingest import DocumentParsed, DocumentSnapshotted, DocumentsSnapshotEnded
from kgl_contracts.operations import SnapshotRequested
from kgl_contracts.topics import DOCUMENTS, REPLAY_GRAPH_DOCUMENTS
from kgl_graph.consumers.documents import graph_documents
from kgl_graph.db.search_index import TABLES
from kgl_graph.rebuilds.search import search
from kgl_graph.testing import GraphKit, accepted, deleted
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.bus.port import Record
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.rebuild import RebuildIncomplete, RebuildLost, RebuildRunning, Rebuilt
from kgl_servicekit.events.rebuild_runner import RebuildRunner
from kgl_servicekit.ids import uuid7
from kgl_servicekit.jobs.runner import JobRunner
from kgl_servicekit.testing.orders import dump
from kgl_servicekit.testing.polling import eventually


@dataclass
class Source:
    """Plays ingest: tells of documents on the live topic, and of all of them when a snapshot is ordered."""

    graph: GraphKit
    bus: MemoryBus
    documents: dict[UUID, DocumentParsed | None] = field(default_factory=dict)
    sequences: Counter[tuple[str, str]] = field(default_factory=Counter)
    _told: int = 0

    async def tell(self, event: EventData, *, repeat: int = 1) -> None:
        place = (event.topic.name, event.key)
        self.sequences[place] += 1
        envelope = Envelope(
            id=uuid7(),
            type=event.event_type,
            source="ingest",
            time=datetime.now(UTC),
            workspace_id=self.graph.workspace,
            sequence=self.sequences[place],
        )
        record = Record(
            topic=place[0], key=place[1], headers=envelope.headers(), value=event.model_dump_json().encode()
        )
        await self.bus.producer().send([record] * repeat)

    async def upload(self, *texts: str, document: UUID | None = None, version: int = 1) -> UUID:
        document = document or uuid7()
        await self.tell(accepted(document, version))
        parsed = await self.graph.parsed(document, version, texts)
        self.documents[document] = parsed
        await self.tell(parsed)
        return document

    async def delete(self, document: UUID) -> None:
        self.documents[document] = None
        await self.tell(deleted(document, 9))

    async def snapshot(self, *, most: int | None = None) -> None:
        """Tell all documents as they are now, or the first ones; twice each, as a relay may."""
        state = await rebuild_row(self.graph)
        for document, parsed in list(self.documents.items())[self._told : most]:
            part = DocumentSnapshotted(
                snapshot_id=state["snapshot_id"],
                document_id=document,
                version=9,
                deleted=parsed is None,
                parsed_version=parsed and parsed.version,
                chunks_object=parsed and parsed.chunks_object,
                sha256=parsed and parsed.sha256,
            )
            await self.tell(part, repeat=2)
        self._told = most or 0
        if most is None:
            await self.tell(DocumentsSnapshotEnded(snapshot_id=state["snapshot_id"], count=len(self.documents)))

    async def texts(self) -> list[str]:
        """What has to be searchable."""
        found = []
        for parsed in self.documents.values():
            if parsed is not None:
                lines = (await self.graph.objects.get(parsed.chunks_object)).splitlines()
                found += [line.decode().rpartition('"text":"')[2].removesuffix('"}') for line in lines]
        return sorted(found)


async def rebuild_row(graph: GraphKit) -> dict[str, Any]:
    async def read(tx: Transaction, _: None) -> dict[str, Any]:
        row = await tx.fetchrow("select * from rebuild where name = 'search' and state = 'running'")
        return {} if row is None else dict(row)

    return await graph.database.run((), read, None)


async def index(graph: GraphKit) -> str:
    """The hash of all that search has."""
    state = await graph.database.run(graph.workspace, lambda tx, _: dump(tx, TABLES, frozenset()), None)
    return hashlib.sha256(repr(state).encode()).hexdigest()


async def indexed_texts(graph: GraphKit) -> list[str]:
    return [row["text"] for row in await graph.rows('select text from chunk order by text collate "C"')]


def rebuild(graph: GraphKit, bus: MemoryBus) -> "asyncio.Task[Rebuilt]":
    return asyncio.create_task(RebuildRunner(graph.database, bus, search, graph.service.outside).run())


async def ordered(graph: GraphKit, task: "asyncio.Task[Rebuilt]") -> None:
    """Until the rebuild waits for its snapshot."""
    await eventually(lambda: _or_fail(task, rebuild_row(graph)))


async def _or_fail(task: "asyncio.Task[Any]", probe: Awaitable[Any]) -> Any:
    if task.done():
        task.result()
    return await probe


async def stop(task: "asyncio.Task[Rebuilt]") -> None:
    """End a rebuild wherever it is, as a stopped process does."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def working(graph: GraphKit, bus: MemoryBus) -> AsyncIterator[None]:
    """The live subscription and the jobs."""
    service = graph.service
    loops: Sequence[Callable[[], Awaitable[None]]] = (
        SubscriptionRunner(graph.database, bus, graph_documents).run,
        JobRunner(graph.database, service.jobs, service.outside, worker="live", idle=0.02).run,
    )
    tasks = [asyncio.ensure_future(loop()) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def in_peace(graph: GraphKit, source: Source) -> None:
    """Until the live subscription has heard everything, and no job is left."""

    async def heard(tx: Transaction, ends: dict[int, int]) -> bool:
        rows = await tx.fetch(
            "select partition, next from consumer_position where subscription = 'graph.documents' and next > 0"
        )
        left = await tx.fetchval("select count(*) from job where state in ('queued', 'running')")
        return {row["partition"]: row["next"] for row in rows} == ends and left == 0

    ends = {partition: end for partition, end in (await source.bus.end_offsets(DOCUMENTS.name)).items() if end}
    await eventually(lambda: graph.database.run((), heard, ends), within=30)


@pytest.fixture
async def bus() -> MemoryBus:
    bus = MemoryBus()
    await bus.declare([DOCUMENTS, REPLAY_GRAPH_DOCUMENTS])
    return bus


@pytest.fixture
async def source(graph: GraphKit, bus: MemoryBus) -> AsyncIterator[Source]:
    """Three documents that are searchable, one that is gone, one whose second version is searchable."""
    source = Source(graph, bus)
    async with working(graph, bus):
        await source.upload("the harbour at night", "boats")
        await source.upload("bread and salt")
        again = await source.upload("first words")
        await source.delete(await source.upload("gone words"))
        await source.upload("second words", document=again, version=2)
        await in_peace(graph, source)
        yield source


async def test_a_rebuild_makes_what_is_there_already_and_a_second_one_changes_nothing(
    graph: GraphKit, source: Source
) -> None:
    before = await index(graph)
    for generation in (1, 2):
        task = rebuild(graph, source.bus)
        await ordered(graph, task)
        await source.snapshot()
        assert await task == Rebuilt(generation, keys=4)
        assert await index(graph) == before
    left = await graph.rows("select count(*) as n from consumer_position where subscription like '%@%'")
    assert left == [{"n": 0}]
    assert not [group for _, group, _ in source.bus.committed if "@" in group]


async def test_nothing_leaves_a_rebuild_but_the_order_of_its_snapshot(graph: GraphKit, source: Source) -> None:
    events = "select type, count(*) as n from outbox_log group by type order by type"
    before, jobs = await graph.rows(events), await graph.rows("select count(*) as n from job")
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await source.snapshot()
    await task
    after = {row["type"]: row["n"] for row in await graph.rows(events)}
    assert after == {row["type"]: row["n"] for row in before} | {SnapshotRequested.event_type: 1}
    assert await graph.rows("select count(*) as n from job") == jobs


async def test_rows_that_are_wrong_missing_or_of_nothing_are_put_right(graph: GraphKit, source: Source) -> None:
    before = await index(graph)
    await graph.rows("update chunk set text = 'forged', version = 7 where text = 'boats' returning id")
    await graph.rows("delete from chunk where text = 'bread and salt' returning id")
    await graph.rows("delete from chunk_vector where chunk_id = (select min(id::text)::uuid from chunk) returning 1")
    await graph.rows("insert into indexed_document values ($1, $2, 3) returning version", graph.workspace, uuid7())
    await graph.rows(
        """insert into chunk (workspace_id, id, document_id, version, ordinal, start, "end", title, text)
           values ($1, $2, $3, 1, 0, 0, 5, '', 'ghost') returning id""",
        graph.workspace,
        uuid7(),
        uuid7(),
    )
    assert await index(graph) != before
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await source.snapshot()
    await task
    assert await index(graph) == before


async def test_what_comes_changes_and_goes_while_it_runs_is_right_afterwards(graph: GraphKit, source: Source) -> None:
    kept, changed, _, gone = list(source.documents)
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await source.upload("came before the snapshot")  # in the snapshot and after the cut
    await source.upload("changed words", document=changed, version=2)
    short_lived = await source.upload("came and went")
    await source.snapshot(most=2)
    await source.delete(short_lived)
    await source.delete(kept)  # told as living already
    await source.snapshot()
    await source.upload("came after the snapshot")
    await task
    await source.upload("came after the swap")
    await in_peace(graph, source)
    assert await indexed_texts(graph) == await source.texts()
    assert source.documents[gone] is None
    live = await index(graph)
    again = rebuild(graph, source.bus)
    await ordered(graph, again)
    source._told = 0
    await source.snapshot()
    await again
    assert await index(graph) == live


async def test_a_version_that_was_parsed_before_an_older_one_stays_the_searchable_one(
    graph: GraphKit, source: Source
) -> None:
    document = uuid7()
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    older = await graph.parsed(document, 1, ["older words"])
    await source.tell(await graph.parsed(document, 2, []))
    await source.tell(older)
    await source.snapshot()
    await task
    await in_peace(graph, source)
    assert "older words" not in await indexed_texts(graph)
    assert await graph.rows("select version from indexed_document where document_id = $1", document) == [{"version": 2}]


class BusyBus(MemoryBus):
    """Whoever asks for the ends gets them, and at once more is told and handled, as under constant traffic."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def end_offsets(self, topic: str) -> dict[int, int]:
        ends = await super().end_offsets(topic)
        if self.meanwhile is not None and topic == DOCUMENTS.name:
            act, self.meanwhile = self.meanwhile, None
            await act()
        return ends


async def test_the_swap_waits_until_all_is_read_that_the_live_subscription_has_handled(graph: GraphKit) -> None:
    bus = BusyBus()
    await bus.declare([DOCUMENTS, REPLAY_GRAPH_DOCUMENTS])
    source = Source(graph, bus)
    async with working(graph, bus):
        document = await source.upload("old words")
        await in_peace(graph, source)
        task = rebuild(graph, bus)
        await ordered(graph, task)

        async def traffic() -> None:
            await source.upload("new words", document=document, version=2)
            await source.upload("a late document")
            await in_peace(graph, source)  # the live job has written to the tables that are about to go

        bus.meanwhile = traffic
        await source.snapshot()
        await task
        assert await indexed_texts(graph) == ["a late document", "new words"]


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
