"""The graph service for tests: real database, real application, stores in memory, events by hand."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import orjson

from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData
from kgl_contracts.ingest import DocumentAccepted, DocumentDeleted, DocumentParsed, chunks_url
from kgl_graph.bootstrap import MIGRATIONS, build
from kgl_graph.consumers.ai import graph_ai
from kgl_graph.consumers.documents import graph_documents
from kgl_graph.settings import GraphSettings
from kgl_graph.stores.swept_index import SweptIndex
from kgl_graph.stores.vector_store import VectorStore
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import Event, Subscription, Verdict
from kgl_servicekit.identity.testing import FakeAuthority
from kgl_servicekit.ids import derived_id, uuid7
from kgl_servicekit.jobs.runner import JobRunner
from kgl_servicekit.objects.memory import MemoryStore
from kgl_servicekit.places import chunks_folder, request_id, results_folder
from kgl_servicekit.service import Service
from kgl_servicekit.testing.postgres import PostgresForTests


@dataclass
class GraphKit:
    """The service, and a workspace to work in."""

    service: Service
    client: httpx.AsyncClient
    authority: FakeAuthority
    objects: MemoryStore
    workspace: UUID
    headers: dict[str, str]
    store: VectorStore | None = None

    @property
    def database(self) -> Database:
        return self.service.database

    async def hear(self, event: EventData, operation: UUID | None = None, copy: int = 0) -> Verdict:
        """Handle an event as the consumer does, in a transaction of its own; each copy has an id of its own."""
        subscription: Subscription = graph_ai if event.topic == graph_ai.topic else graph_documents
        envelope = Envelope(
            id=derived_id("test", event.event_type, event.model_dump_json(), copy),
            type=event.event_type,
            source=event.producer(),
            time=datetime.now(UTC),
            workspace_id=self.workspace,
            operation_id=operation,
        )
        cause = Cause(id=envelope.id, kind="event", actor="service:test", at=envelope.time, operation_id=operation)
        handle = subscription.handlers[event.event_type].handle

        async def apply(tx: Transaction, event: EventData) -> Verdict:
            return await handle(tx, Event(event, envelope))

        return await self.database.run(self.workspace, apply, event, cause=cause)

    async def parsed(self, document: UUID, version: int, texts: Sequence[str], title: str = "Title") -> DocumentParsed:
        """Store the chunks of a version, and the event that tells of them."""
        lines, at = [], 0
        for ordinal, text in enumerate(texts):
            chunk = {
                "id": str(chunk_id(document, version, ordinal)),
                "ordinal": ordinal,
                "start": at,
                "end": at + len(text),
                "title": title,
                "text": text,
            }
            lines.append(orjson.dumps(chunk))
            at += len(text)
        content = b"\n".join(lines)
        key = f"{chunks_folder(self.workspace, document, version)}chunks.jsonl"
        await self.objects.put(key, content)
        return DocumentParsed(
            document_id=document,
            version=version,
            chunk_count=len(texts),
            text_length=at,
            chunks_url=chunks_url(document, version),
            chunks_object=key,
            sha256=hashlib.sha256(content).hexdigest(),
        )

    def result_folder(self, document: UUID, version: int, module: str = "reader") -> str:
        """Where the extractions of a document version by a module lie."""
        return results_folder(self.workspace, request_id(self.workspace, document, version, module, "extract"))

    async def work(self) -> None:
        """Do all jobs that are ready, and those that they lead to."""
        runner = JobRunner(self.database, self.service.jobs, self.service.outside, worker="test")
        await runner.work_off()

    async def index(self, texts: Sequence[str], title: str = "Title") -> UUID:
        """A document that can be found."""
        document = uuid7()
        await self.hear(await self.parsed(document, 1, texts, title))
        await self.work()
        return document

    async def lease(self, *capabilities: str, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
        """Lease all requests for these capabilities."""
        answer = await self.client.post(
            "/modules/v1/jobs:lease",
            json={"capabilities": capabilities, "max": 32},
            headers=headers or self.headers,
        )
        assert answer.status_code == 200, answer.text
        jobs: list[dict[str, Any]] = answer.json()["jobs"]
        return jobs

    async def rows(self, sql: str, *args: Any) -> list[dict[str, Any]]:
        """What a statement finds in the workspace."""

        async def read(tx: Transaction, _: None) -> list[dict[str, Any]]:
            return [dict(row) for row in await tx.fetch(sql, *args)]

        return await self.database.run(self.workspace, read, None)


def chunk_id(document: UUID, version: int, ordinal: int) -> UUID:
    """The id of a chunk of a document made here."""
    return derived_id(document, version, ordinal)


def accepted(document: UUID, version: int) -> DocumentAccepted:
    """The event that a version is accepted."""
    return DocumentAccepted.example().model_copy(update={"document_id": document, "version": version})


def deleted(document: UUID, version: int) -> DocumentDeleted:
    """The event that a document is gone."""
    return DocumentDeleted(document_id=document, version=version)


@asynccontextmanager
async def graph_kit(postgres: PostgresForTests, store: VectorStore | None = None) -> AsyncIterator[GraphKit]:
    """The service on a database of its own; with a store of vectors the database is one without pgvector."""
    async with postgres.database(MIGRATIONS, branches=None if store is None else ()) as roles:
        settings = GraphSettings(
            env="test", database_url=roles.service, bus_url="postgresql:///none", object_dir="/nonexistent"
        )
        objects, authority, workspace = MemoryStore(), FakeAuthority(), uuid7()
        made = build(settings, MemoryBus())
        outside = replace(made.outside, objects=objects)
        if store is not None:
            outside = replace(outside, vectors=SweptIndex(made.database, store))
        service = replace(made, authority=authority, outside=outside, resources=[], checks={})
        app = service.api()
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
        ):
            yield GraphKit(service, client, authority, objects, workspace, authority.user(workspace), store)
