"""The publish service for tests: real database, real application, events by hand, a receiver on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kgl_contracts.content import ItemPublished
from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData
from kgl_publish.bootstrap import MIGRATIONS, build
from kgl_publish.consumers.operations import publish_operations
from kgl_publish.consumers.public import public_subscriptions
from kgl_publish.settings import PublishSettings
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import Event
from kgl_servicekit.identity.testing import FakeAuthority
from kgl_servicekit.ids import derived_id, uuid7
from kgl_servicekit.jobs.runner import JobRunner
from kgl_servicekit.service import Service
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests

CONSUMERS = "/events/v1/consumers"


@dataclass
class Receiver:
    """A receiver of webhooks; `answers` are the statuses that it gives, the last one for ever."""

    port: int = 0
    answers: list[int] = field(default_factory=lambda: [204])
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def receive(self, request: Request) -> Response:
        """Note a delivery and answer it."""
        self.requests.append((dict(request.headers), await request.body()))
        return Response(status_code=self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])


@dataclass
class PublishKit:
    """The service, a receiver that it may reach, and a workspace to work in."""

    service: Service
    client: httpx.AsyncClient
    authority: FakeAuthority
    receiver: Receiver
    workspace: UUID
    headers: dict[str, str]

    @property
    def database(self) -> Database:
        return self.service.database

    @property
    def receiver_url(self) -> str:
        return f"http://127.0.0.1:{self.receiver.port}/hooks"

    async def hear(self, event: EventData, *, name: str = "1", operation: UUID | None = None) -> None:
        """Handle an event as the consumer does; the same name is the same event."""
        subscription = next(s for s in (*public_subscriptions, publish_operations) if s.topic == event.topic)
        envelope = Envelope(
            id=derived_id("test", event.event_type, name),
            type=event.event_type,
            source=event.producer(),
            time=datetime(2026, 11, 23, tzinfo=UTC),
            workspace_id=self.workspace,
            operation_id=operation,
        )
        cause = Cause(id=envelope.id, kind="event", actor="service:test", at=envelope.time, operation_id=operation)

        async def apply(tx: Transaction, event: EventData) -> None:
            await subscription.handlers[event.event_type].handle(tx, Event(event, envelope))

        await self.database.run(self.workspace, apply, event, cause=cause)

    async def endpoint(self, *types: str) -> dict[str, Any]:
        """A new endpoint at the receiver."""
        body = {"url": self.receiver_url, "event_types": types or ("*",)}
        answer = await self.client.post("/publish/v1/endpoints", json=body, headers=self.headers)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def work(self) -> None:
        """Do all jobs that are ready."""
        runner = JobRunner(self.database, self.service.jobs, self.service.outside, worker="test")
        await runner.work_off()

    async def deliveries(self) -> list[dict[str, Any]]:
        """All deliveries of the workspace."""
        answer = await self.client.get("/publish/v1/deliveries", headers=self.headers)
        found: list[dict[str, Any]] = answer.json()["items"]
        return found


@asynccontextmanager
async def publish_kit(
    postgres: PostgresForTests, delivery_delays: tuple[float, ...] = (0, 0)
) -> AsyncIterator[PublishKit]:
    """The service on a database of its own; failed deliveries are tried again at once, twice."""
    async with postgres.database(MIGRATIONS) as roles, _listening(Receiver()) as receiver:
        settings = PublishSettings(
            env="test",
            database_url=roles.service,
            bus_url="postgresql:///none",
            egress_allow=f"127.0.0.1:{receiver.port}",
            delivery_delays=delivery_delays,
        )
        authority, workspace = FakeAuthority(), uuid7()
        service = replace(build(settings, MemoryBus()), authority=authority)
        app = service.api()
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
        ):
            yield PublishKit(service, client, authority, receiver, workspace, authority.user(workspace))


@asynccontextmanager
async def _listening(receiver: Receiver) -> AsyncIterator[Receiver]:
    app = Starlette(routes=[Route("/hooks", receiver.receive, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off"))
    task = asyncio.create_task(server._serve())

    async def started() -> bool:
        return server.started

    await eventually(started)
    receiver.port = server.servers[0].sockets[0].getsockname()[1]
    yield receiver
    server.should_exit = True
    await task


async def make(publish: PublishKit, name: str = "tagger", **body: Any) -> httpx.Response:
    """Make a named consumer, or change its filters."""
    return await publish.client.put(f"{CONSUMERS}/{name}", json=body, headers=publish.headers)


async def post(publish: PublishKit, verb: str, name: str = "tagger", **body: Any) -> httpx.Response:
    """Ask a consumer to pull, commit or seek."""
    return await publish.client.post(f"{CONSUMERS}/{name}:{verb}", json=body, headers=publish.headers)


async def pull(publish: PublishKit, name: str = "tagger", **body: Any) -> dict[str, Any]:
    """The answer to a pull, which has to work."""
    answer = await post(publish, "pull", name, **body)
    assert answer.status_code == 200, answer.text
    pulled: dict[str, Any] = answer.json()
    return pulled


async def show(publish: PublishKit, name: str = "tagger") -> dict[str, Any]:
    """A consumer as its workspace sees it."""
    shown: dict[str, Any] = (await publish.client.get(f"{CONSUMERS}/{name}", headers=publish.headers)).json()
    return shown


async def hear(publish: PublishKit, count: int, **changes: Any) -> None:
    """So many items are published."""
    for number in range(count):
        event = ItemPublished.example().model_copy(update={"item_id": uuid7(), **changes})
        await publish.hear(event, name=f"{number}-{event.item_id}")
