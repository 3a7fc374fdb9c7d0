"""A service as a whole: what it is made of, and its process roles."""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from fastapi import APIRouter, FastAPI
from loguru import logger
from starlette.types import ASGIApp

from kgl_contracts.rights import written_by
from kgl_contracts.topics import Topic
from kgl_servicekit.bus.choose import bus_of
from kgl_servicekit.bus.port import Bus, BusRefused, TopicMissing
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.maintenance import maintain
from kgl_servicekit.doctor.tables import TableCheck
from kgl_servicekit.drift.check import DriftCheck
from kgl_servicekit.drift.run import DriftWatch
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.decisions import decision_subscription
from kgl_servicekit.events.lag import LagWatch
from kgl_servicekit.events.outbox_watch import watch_outbox
from kgl_servicekit.events.rebuild import InPlace, Rebuild, Rebuilt
from kgl_servicekit.events.rebuild_runner import RebuildRunner, rebuild_in_place
from kgl_servicekit.events.redrive import Redriver
from kgl_servicekit.events.refill import Refilled, refill, refill_lost, release_refused
from kgl_servicekit.events.relay import Heartbeat, Relay
from kgl_servicekit.events.subscription import Subscription
from kgl_servicekit.http import create_app
from kgl_servicekit.http.health import health_app
from kgl_servicekit.identity import Authority, identity_subscription
from kgl_servicekit.jobs.declare import Jobs
from kgl_servicekit.jobs.runner import JobRunner
from kgl_servicekit.logs import configure_logging
from kgl_servicekit.once import ONCE, migrate_database
from kgl_servicekit.process import Stopped, run, until_stopped
from kgl_servicekit.settings import NotConfigured, ServiceSettings, settings_of

S = TypeVar("S", bound=ServiceSettings)
Loop = Callable[[], Coroutine[Any, Any, None]]
Check = Callable[[], Awaitable[None]]
_KEEP_ALIVE = 75  # seconds; longer than a proxy in front keeps its idle connections, so that it is the one to close
_GRACE = 7  # seconds
_BUS_PAUSE_LIMIT = 5.0


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service: its database, its doors, its work. Built by a `bootstrap.build`, run by role.

    `branches` are those of its migrations that what was chosen needs.
    """

    name: str
    settings: ServiceSettings
    database: Database
    bus: Bus
    migrations: Path
    branches: Sequence[str] = ()
    routers: Sequence[tuple[str, APIRouter]] = ()
    subscriptions: Sequence[Subscription] = ()
    jobs: Jobs = field(default_factory=Jobs)
    outside: Any = None
    heartbeat: Heartbeat | None = None
    authority: Authority | None = None
    loops: Sequence[Loop] = ()
    rebuilds: Sequence[Rebuild] = ()
    rebuilds_in_place: Sequence[InPlace] = ()
    examinations: Mapping[str, TableCheck] = field(default_factory=dict)
    drift_checks: Sequence[DriftCheck] = ()
    checks: Mapping[str, Check] = field(default_factory=dict)
    resources: Sequence[Callable[[], AbstractAsyncContextManager[Any]]] = ()
    lag: LagWatch = field(default_factory=LagWatch)

    def api(self) -> FastAPI:
        """The HTTP application; its lifespan opens what it needs."""
        return create_app(self)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """The database and the stores, open."""
        async with AsyncExitStack() as stack:
            await self.database.start()
            stack.push_async_callback(self.database.stop)
            for resource in self.resources:
                await stack.enter_async_context(resource())
            yield

    async def work(self, *, relay_only: bool = False) -> None:
        """Relay, consume and do jobs until cancelled; ends with the first loop that fails."""
        async with self.opened():
            await self.bus.start()
            try:
                await self._declare(self._topics)
                async with asyncio.TaskGroup() as group:
                    for loop in self._loops(relay_only=relay_only):
                        group.create_task(loop)
            finally:
                await self.bus.stop()

    async def rebuild(self, name: str) -> Rebuilt:
        """Build derived tables anew, while workers and APIs go on. Raises KeyError, and what RebuildRunner.run does."""
        in_place = {rebuild.name: rebuild for rebuild in self.rebuilds_in_place}.get(name)
        async with self.opened():
            if in_place is not None:
                return await rebuild_in_place(self.database, in_place)
            rebuild = {rebuild.name: rebuild for rebuild in self.rebuilds}[name]
            await self.bus.start()
            try:
                await self._declare({rebuild.replay, rebuild.live.topic})
                return await RebuildRunner(self.database, self.bus, rebuild, self.outside).run()
            finally:
                await self.bus.stop()

    async def refill(self, topics: Sequence[str] = ()) -> Refilled:
        """Send again what the outbox keeps of these topics; without any, of those that the bus has lost.

        Workers and APIs may go on meanwhile. Raises NotConfigured for a topic that this service does not write.
        """
        own = [topic.name for topic in written_by(self.name)]
        if strange := sorted(set(topics).difference(own)):
            raise NotConfigured(f"{self.name} does not write {', '.join(strange)}; it writes {', '.join(own)}")
        await self.database.start()
        try:
            if topics:
                return Refilled(tuple(topics), await self.database.run((), refill, topics))
            await self.bus.start()
            try:
                return await refill_lost(self.database, self.bus)
            finally:
                await self.bus.stop()
        finally:
            await self.database.stop()

    async def release(self, topic: str, key: str) -> bool:
        """Let the relay send a key again whose event the bus had refused for good; False when there is none."""
        await self.database.start()
        try:
            return await self.database.run((), release_refused, (topic, key))
        finally:
            await self.database.stop()

    @property
    def _topics(self) -> set[Topic]:
        """What this service writes and reads; of others it may know nothing."""
        return {*written_by(self.name), *(subscription.topic for subscription in self.all_subscriptions)}

    @property
    def rebuild_names(self) -> list[str]:
        """What `rebuild` can be asked for."""
        return [*(each.name for each in self.rebuilds), *(each.name for each in self.rebuilds_in_place)]

    @property
    def all_subscriptions(self) -> tuple[Subscription, ...]:
        """Its own, and those that every service has."""
        own = (*self.subscriptions, identity_subscription(self.name))
        return *own, decision_subscription(self.name, own)

    async def _declare(self, topics: set[Topic]) -> None:
        """Wait for the bus, and see that it has the topics; raises NotConfigured for what an operator has to mend."""
        delay = 0.5
        while True:
            try:
                await self.bus.declare(sorted(topics, key=lambda topic: topic.name))
                return
            except (TopicMissing, BusRefused, ValueError) as wrong:
                raise NotConfigured(str(wrong)) from wrong
            except Unavailable as out:
                logger.bind(service=self.name, error=str(out)).warning("bus.waited_for")
                await asyncio.sleep(delay)
                delay = min(delay * 2, _BUS_PAUSE_LIMIT)

    def _loops(self, *, relay_only: bool) -> list[Coroutine[Any, Any, None]]:
        worker = self.settings.worker_name
        relay = Relay(self.database, self.bus, worker=worker, heartbeat=self.heartbeat)
        loops: list[Coroutine[Any, Any, None]] = [relay.run(), watch_outbox(self.database)]
        if relay_only:
            return loops
        loops.append(maintain(self.database))
        subscriptions = self.all_subscriptions
        loops += [SubscriptionRunner(self.database, self.bus, each).run() for each in subscriptions]
        loops.append(Redriver(self.database, *subscriptions).run())
        loops.append(self.lag.run(self.database, self.bus, subscriptions))
        if self.jobs.handlers:
            loops.append(JobRunner(self.database, self.jobs, self.outside, worker=worker).run())
        if self.drift_checks:
            loops.append(DriftWatch(self.database, self.drift_checks, self.settings.drift_hour).run())
        loops.extend(loop() for loop in self.loops)
        return loops


def main(settings_class: type[S], build: Callable[[S, Bus], Service]) -> None:
    """The command of a service: `api`, `worker`, `relay`, `migrate`, and what operators ask for (`once.py`).

    What an operator has set wrong ends it with one line that names the setting, as does a server that is out. A signal
    ends what serves in good order; what is asked for once is not done then, and says so: 130 or 143.
    """
    parser = argparse.ArgumentParser(
        description=f"{settings_class.__module__.split('.')[0]}: one of the services of kgl"
    )
    parser.add_argument("role", choices=("api", "worker", "relay", "migrate", *ONCE))
    parser.add_argument("names", nargs="*", help="of the tables to build anew, or of the topics to send again")
    parser.add_argument("--json", action="store_true", help="of doctor and drift: for machines")
    parser.add_argument("--repair", action="store_true", help="of drift: derive anew what differs")
    parser.add_argument("--drift", action="store_true", help="of doctor: look for drift now")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, help="8000 for api; a worker answers health checks there, if it is given")
    asked = parser.parse_args()
    status = None
    try:
        settings = settings_of(settings_class)
        service = build(settings, bus_of(settings, f"{settings_class.__module__}/{settings.worker_name}"))
        configure_logging(settings.log_level, service.name)
        status = run(_role(service, asked))
    except* (NotConfigured, Unavailable) as wrong:
        sys.exit("\n".join(str(each) for each in _leaves(wrong)))
    sys.exit(status)


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    return [
        leaf
        for each in group.exceptions
        for leaf in (_leaves(each) if isinstance(each, BaseExceptionGroup) else [each])
    ]


def _role(service: Service, asked: argparse.Namespace) -> Coroutine[Any, Any, int | None]:
    if asked.role == "api":
        return _serve(service, asked.host, asked.port or 8000)
    if asked.role == "migrate":
        return _once(migrate_database(service))
    if asked.role in ONCE:
        return _once(ONCE[asked.role](service, asked))
    return _work_until_stopped(service, asked)


async def _serve(service: Service, host: str, port: int) -> None:
    """Answer until SIGTERM or SIGINT; requests that are being answered then get some seconds to end."""
    app = service.api()
    server = _server(app, service, host, port)
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, setattr, server, "should_exit", True)
    async with app.router.lifespan_context(app):
        await server._serve()
    logger.info("api.stopped")


async def _work(service: Service, asked: argparse.Namespace) -> None:
    """The loops of a worker, and its health checks beside them."""
    work = service.work(relay_only=asked.role == "relay")
    if asked.port is None:
        await work
        return
    checks = {
        "database": service.database.ping,
        "bus": service.bus.ping,
        "progress": service.lag.check,
        **service.checks,
    }
    async with asyncio.TaskGroup() as group:
        group.create_task(_server(health_app(service.name, checks), service, asked.host, asked.port)._serve())
        group.create_task(work)


def _server(app: ASGIApp, service: Service, host: str, port: int) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        lifespan="off",  # entered by who serves, so that what is wrong with the settings is told as such
        log_config=None,
        access_log=False,
        ws="websockets-sansio",
        forwarded_allow_ips=service.settings.trusted_proxies,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )
    return uvicorn.Server(config)


async def _work_until_stopped(service: Service, asked: argparse.Namespace) -> None:
    with contextlib.suppress(Stopped):
        await until_stopped(_work(service, asked))
    logger.info("worker.stopped")


async def _once(work: Coroutine[Any, Any, int | None]) -> int | None:
    try:
        return await until_stopped(work)
    except Stopped as stopped:
        sys.stderr.write(f"{stopped}\n")
        return stopped.status
