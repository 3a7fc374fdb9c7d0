"""The composition root of publish: the only place that builds its clients."""

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from kgl_publish.api import endpoints, events, feed, live
from kgl_publish.consumers.operations import publish_operations
from kgl_publish.consumers.public import public_subscriptions
from kgl_publish.drift import drift_checks
from kgl_publish.jobs import deliver
from kgl_publish.jobs.declared import Outside, jobs
from kgl_publish.rebuilds.items import items
from kgl_publish.settings import PublishSettings
from kgl_publish.stores.egress import Egress
from kgl_servicekit.bus.port import Bus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.service import Service
from kgl_servicekit.waiting import repeat

MIGRATIONS = Path(__file__).parent.parent / "migrations"
JOB_HANDLERS = (deliver.deliver,)
_TRIM_SECONDS = 600.0


def build(settings: PublishSettings, bus: Bus) -> Service:
    """The publish service with the clients that its settings describe."""
    database = Database(settings.database_url.get_secret_value(), service="publish", pool_size=settings.pool_size)
    egress = Egress(allow=settings.egress_allow, timeout=settings.delivery_timeout)

    @asynccontextmanager
    async def clients() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await egress.close()  # only workers send, and they end before or without the API

    def trim_live() -> Coroutine[Any, Any, None]:
        forget = partial(database.run, (), _trim, settings.live_retention)
        return repeat(forget, _TRIM_SECONDS, postponed="live.trim_postponed")

    return Service(
        name="publish",
        settings=settings,
        database=database,
        bus=bus,
        migrations=MIGRATIONS,
        routers=[
            ("/publish/v1", endpoints.router),
            ("/publish/v1", feed.router),
            ("/events/v1", events.router),
            ("/live/v1", live.router),
        ],
        subscriptions=[*public_subscriptions, publish_operations],
        jobs=jobs,
        outside=Outside(egress=egress, delays=settings.delivery_delays),
        resources=[clients],
        loops=[trim_live],
        rebuilds=[items],
        drift_checks=drift_checks(database, bus),
    )


async def _trim(tx: Transaction, seconds: float) -> None:
    await tx.fetchval("select kgl_trim_live($1)", seconds)
