"""The content service for tests: real database, real application, a store in memory, events by hand."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx

from kgl_content.bootstrap import MIGRATIONS, build
from kgl_content.consumers.ai import content_ai
from kgl_content.consumers.documents import content_documents
from kgl_content.settings import ContentSettings
from kgl_contracts.ai import ContentGenerated, Span, Summary
from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import Event, Verdict
from kgl_servicekit.identity.testing import FakeAuthority
from kgl_servicekit.ids import derived_id, uuid7
from kgl_servicekit.jobs.runner import JobRunner
from kgl_servicekit.objects.memory import MemoryStore
from kgl_servicekit.places import request_id, results_folder
from kgl_servicekit.service import Service
from kgl_servicekit.testing.postgres import PostgresForTests


@dataclass
class ContentKit:
    """The service, and a workspace to work in."""

    service: Service
    client: httpx.AsyncClient
    authority: FakeAuthority
    objects: MemoryStore
    workspace: UUID
    headers: dict[str, str]

    @property
    def database(self) -> Database:
        return self.service.database

    async def hear(self, event: EventData, copy: int = 0, operation: UUID | None = None) -> Verdict:
        """Handle an event as the consumer does, in a transaction of its own; each copy has an id of its own."""
        subscription = content_ai if event.topic == content_ai.topic else content_documents
        envelope = Envelope(
            id=derived_id("test", event.model_dump_json(), copy),
            type=event.event_type,
            source=event.producer(),
            time=datetime.now(UTC),
            workspace_id=self.workspace,
        )
        cause = Cause(id=envelope.id, kind="event", actor="service:test", at=envelope.time, operation_id=operation)
        handle = subscription.handlers[event.event_type].handle

        async def apply(tx: Transaction, event: EventData) -> Verdict:
            return await handle(tx, Event(event, envelope))

        return await self.database.run(self.workspace, apply, event, cause=cause)

    async def generated(
        self, document: UUID, version: int, text: str, sources: tuple[Span, ...] = (), module: str = "reader"
    ) -> ContentGenerated:
        """Store a text of a module, and the event that tells of it."""
        request = request_id(self.workspace, document, version, module, "summarise")
        content = Summary(title="Title", text=text, sources=sources).model_dump_json().encode()
        key = f"{results_folder(self.workspace, request)}{hashlib.sha256(content).hexdigest()}.json"
        info = await self.objects.put(key, content)
        return ContentGenerated(
            request_id=request,
            document_id=document,
            version=version,
            module=module,
            kind="summary",
            result_object=key,
            sha256=info.sha256,
        )

    async def work(self) -> None:
        """Do all jobs that are ready."""
        runner = JobRunner(self.database, self.service.jobs, self.service.outside, worker="test")
        await runner.work_off()

    async def items(self) -> list[dict[str, Any]]:
        """All items of the workspace."""
        answer = await self.client.get("/content/v1/items", headers=self.headers)
        found: list[dict[str, Any]] = answer.json()["items"]
        return found


@asynccontextmanager
async def content_kit(postgres: PostgresForTests, **settings: Any) -> AsyncIterator[ContentKit]:
    """The service on a database of its own."""
    async with postgres.database(MIGRATIONS) as roles:
        chosen = ContentSettings(
            env="test", database_url=roles.service, bus_url="postgresql:///none", object_dir="/nonexistent", **settings
        )
        objects, authority, workspace = MemoryStore(), FakeAuthority(), uuid7()
        made = build(chosen, MemoryBus())
        service = replace(
            made, authority=authority, outside=replace(made.outside, objects=objects), resources=[], checks={}
        )
        app = service.api()
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
        ):
            yield ContentKit(service, client, authority, objects, workspace, authority.user(workspace))
