"""Composition of the auth service: the only place that builds its parts."""

from functools import partial
from pathlib import Path

import httpx
from loguru import logger

from kgl_auth.api import audit, browser, keys, me, members, modules, registration, workspaces
from kgl_auth.audit_verification import ChainWatch
from kgl_auth.browser_sessions import BrowserSessions
from kgl_auth.consumers.audit import auth_audit
from kgl_auth.heartbeat import SOURCE, heartbeat
from kgl_auth.outside import AuthOutside
from kgl_auth.pages import Pages
from kgl_auth.providers import built_in, keycloak
from kgl_auth.settings import AuthSettings
from kgl_auth.use_cases.delete_expired import delete_expired
from kgl_servicekit.bus.port import Bus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.service import Service
from kgl_servicekit.waiting import repeat

MIGRATIONS = Path(__file__).parent.parent / "migrations"

_ROUTERS = (
    *(browser.router, registration.router, me.router, workspaces.router, members.router),
    *(keys.router, modules.router, audit.router),
)


def build(settings: AuthSettings, bus: Bus, keycloak_transport: httpx.AsyncBaseTransport | None = None) -> Service:
    """The service, with the identity provider that the settings name. Raises NotConfigured.

    `keycloak_transport` takes the place of connections to Keycloak.
    """
    database = Database(settings.database_url.get_secret_value(), service=SOURCE, pool_size=settings.pool_size)
    if settings.identity == "keycloak":
        parts = keycloak(settings, database, keycloak_transport)
    else:
        parts = built_in(settings, database)
    outside = AuthOutside(
        settings=settings,
        accounts=parts.accounts,
        builtin=parts.builtin,
        browser_sessions=BrowserSessions(database, parts.provider),
        pages=Pages(),
    )
    return Service(
        name=SOURCE,
        settings=settings,
        database=database,
        bus=bus,
        migrations=MIGRATIONS,
        routers=[("/auth/v1", router) for router in (*_ROUTERS, *parts.routers)],
        subscriptions=[auth_audit],
        outside=outside,
        heartbeat=heartbeat,
        authority=parts.authority,
        loops=[
            lambda: repeat(partial(_delete_all_expired, database), 3600, postponed="expired.postponed"),
            *parts.loops,
            ChainWatch(database, rest=settings.audit_check_seconds).run,
        ],
        checks=parts.checks,
        resources=parts.resources,
    )


async def _delete_all_expired(database: Database) -> None:
    while (deleted := await database.run((), delete_expired, None)) > 0:
        logger.bind(rows=deleted).info("expired.deleted")
