"""Composition of the auth service: the only place that builds its parts."""

import asyncio
from datetime import timedelta
from pathlib import Path

from loguru import logger

from kgl_auth.api import (
    audit,
    browser,
    keys,
    me,
    members,
    modules,
    oidc_metadata,
    oidc_pages,
    oidc_token,
    registration,
    signing_keys,
    workspaces,
)
from kgl_auth.audit_verification import ChainWatch
from kgl_auth.authority import LocalAuthority
from kgl_auth.browser_sessions import BrowserSessions
from kgl_auth.consumers.audit import auth_audit
from kgl_auth.heartbeat import SOURCE, heartbeat
from kgl_auth.issuer import Issuer
from kgl_auth.key_rotation import KeyRotation
from kgl_auth.outside import AuthOutside
from kgl_auth.pages import Pages
from kgl_auth.settings import AuthSettings
from kgl_auth.stores.builtin_provider import BuiltInProvider
from kgl_auth.stores.key_ring import KeyRing
from kgl_auth.stores.password_checker import PasswordChecker
from kgl_auth.use_cases.delete_expired import delete_expired
from kgl_servicekit.bus.port import Bus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.identity.tokens import TokenVerifier
from kgl_servicekit.service import Service

MIGRATIONS = Path(__file__).parent.parent / "migrations"

_ROUTERS = (
    *(browser.router, registration.router, oidc_metadata.router, oidc_pages.router, oidc_token.router),
    *(me.router, workspaces.router, members.router, keys.router, modules.router, audit.router, signing_keys.router),
)


def build(settings: AuthSettings, bus: Bus) -> Service:
    """The service, with the built-in issuer as its identity provider. Raises ValueError for another issuer."""
    if settings.issuer_url != settings.own_issuer_url:
        raise ValueError("KGL_ISSUER names another issuer, and there is no adapter for one yet; unset it")
    database = Database(settings.database_url.get_secret_value(), service=SOURCE, pool_size=settings.pool_size)
    key_ring = KeyRing(database)
    issuer = Issuer(database, settings, key_ring, PasswordChecker(settings.hash_cost))
    provider = BuiltInProvider(database, settings, issuer)
    outside = AuthOutside(
        settings=settings,
        issuer=issuer,
        browser_sessions=BrowserSessions(database, provider),
        pages=Pages(),
    )
    return Service(
        name=SOURCE,
        settings=settings,
        database=database,
        bus=bus,
        migrations=MIGRATIONS,
        routers=[("/auth/v1", router) for router in _ROUTERS],
        subscriptions=[auth_audit],
        outside=outside,
        heartbeat=heartbeat,
        authority=LocalAuthority(database, TokenVerifier(key_ring, settings.issuer_url), settings.session_cookie),
        loops=[
            lambda: _delete_expired_hourly(database),
            KeyRotation(database, timedelta(seconds=settings.signing_key_seconds)).run,
            ChainWatch(database, rest=settings.audit_check_seconds).run,
        ],
    )


async def _delete_expired_hourly(database: Database) -> None:
    while True:
        try:
            while (deleted := await database.run((), delete_expired, None)) > 0:
                logger.bind(rows=deleted).info("expired.deleted")
        except Unavailable as out:
            logger.bind(error=str(out)).warning("expired.postponed")
        await asyncio.sleep(3600)
