"""A rebuild of the search index for tests: a source that plays ingest, and the live subscription beside it."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData
from kgl_contracts.ingest import DocumentParsed, DocumentSnapshotted, DocumentsSnapshotEnded
from kgl_contracts.topics import DOCUMENTS
from kgl_graph.consumers.documents import graph_documents
from kgl_graph.db.search_index import TABLES
from kgl_graph.rebuilds.search import search
from kgl_graph.stores.memory_vectors import Kept, MemoryVectors
from kgl_graph.testing import GraphKit, accepted, deleted
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.bus.port import Record
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.rebuild import Rebuilt
from kgl_servicekit.events.rebuild_runner import RebuildRunner
from kgl_servicekit.ids import uuid7
from kgl_servicekit.jobs.runner import JobRunner
from kgl_servicekit.testing.events import running
from kgl_servicekit.testing.orders import dump
from kgl_servicekit.testing.polling import eventually


@dataclass
class Source:
    """Plays ingest: tells of documents on the live topic, and of all of them when a snapshot is ordered."""

    graph: GraphKit
    bus: MemoryBus
    documents: dict[UUID, DocumentParsed | None] = field(default_factory=dict)
    sequences: Counter[tuple[str, str]] = field(default_factory=Counter)
    told: int = 0

    async def tell(self, event: EventData, *, repeat: int = 1) -> None:
        """Send an event in the sequence of its key, more than once if asked."""
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
        """A version with these chunks, accepted and parsed."""
        document = document or uuid7()
        await self.tell(accepted(document, version))
        parsed = await self.graph.parsed(document, version, texts)
        self.documents[document] = parsed
        await self.tell(parsed)
        return document

    async def delete(self, document: UUID) -> None:
        """The document is gone."""
        self.documents[document] = None
        await self.tell(deleted(document, 9))

    async def snapshot(self, *, most: int | None = None, snapshot_id: UUID | None = None) -> None:
        """Tell all documents as they are now, or the first ones; twice each, as a relay may.

        For the running rebuild, or the check that ordered this one.
        """
        snapshot_id = snapshot_id or (await rebuild_row(self.graph))["snapshot_id"]
        for document, parsed in list(self.documents.items())[self.told : most]:
            part = DocumentSnapshotted(
                snapshot_id=snapshot_id,
                document_id=document,
                version=9 if parsed is None else parsed.version,
                deleted=parsed is None,
                parsed_version=parsed and parsed.version,
                chunks_object=parsed and parsed.chunks_object,
                sha256=parsed and parsed.sha256,
                chunk_count=parsed and parsed.chunk_count,
            )
            await self.tell(part, repeat=2)
        self.told = most or 0
        if most is None:
            await self.tell(DocumentsSnapshotEnded(snapshot_id=snapshot_id, count=len(self.documents)))

    async def texts(self) -> list[str]:
        """What has to be searchable."""
        found = []
        for parsed in self.documents.values():
            if parsed is not None:
                lines = (await self.graph.objects.get(parsed.chunks_object)).splitlines()
                found += [line.decode().rpartition('"text":"')[2].removesuffix('"}') for line in lines]
        return sorted(found)


async def rebuild_row(graph: GraphKit) -> dict[str, Any]:
    """How far the running rebuild is."""

    async def read(tx: Transaction, _: None) -> dict[str, Any]:
        row = await tx.fetchrow("select * from rebuild where name = 'search' and state = 'running'")
        return {} if row is None else dict(row)

    return await graph.database.run((), read, None)


async def index(graph: GraphKit) -> str:
    """The hash of all that search has."""
    tables: tuple[str, ...] = TABLES
    vectors: dict[UUID, Kept] = {}
    if isinstance(graph.store, MemoryVectors):
        tables = tuple(table for table in TABLES if table != "chunk_vector")
        vectors = graph.store.kept[graph.workspace]
    state = await graph.database.run(graph.workspace, lambda tx, _: dump(tx, tables, frozenset()), None)
    return hashlib.sha256(repr((state, sorted(vectors.items()))).encode()).hexdigest()


async def indexed_texts(graph: GraphKit) -> list[str]:
    """The texts that can be found."""
    return [row["text"] for row in await graph.rows('select text from chunk order by text collate "C"')]


def rebuild(graph: GraphKit, bus: MemoryBus) -> "asyncio.Task[Rebuilt]":
    """Start a rebuild."""
    return asyncio.create_task(RebuildRunner(graph.database, bus, search, graph.service.outside).run())


async def ordered(graph: GraphKit, task: "asyncio.Task[Rebuilt]") -> dict[str, Any]:
    """Until the rebuild waits for its snapshot; the answer is its row."""
    return await eventually(lambda: _or_fail(task, rebuild_row(graph)))


async def _or_fail(task: "asyncio.Task[Any]", probe: Awaitable[Any]) -> Any:
    if task.done():
        task.result()
    return await probe


async def stop(task: "asyncio.Task[Rebuilt]") -> None:
    """End a rebuild wherever it is, as a stopped process does."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def working(graph: GraphKit, bus: MemoryBus) -> AbstractAsyncContextManager[None]:
    """The live subscription and the jobs."""
    service = graph.service
    return running(
        SubscriptionRunner(graph.database, bus, graph_documents).run,
        JobRunner(graph.database, service.jobs, service.outside, worker="live", idle=0.02).run,
    )


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


async def rebuilt_twice_alike(graph: GraphKit, source: Source) -> None:
    """Rebuild, and rebuild again: each time the index is what it was."""
    before = await index(graph)
    for generation in (1, 2):
        task = rebuild(graph, source.bus)
        await ordered(graph, task)
        await source.snapshot()
        assert await task == Rebuilt(generation, keys=4)
        assert await index(graph) == before
