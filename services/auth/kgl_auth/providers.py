"""Who logs people in: the parts of the service that differ between the built-in issuer and Keycloak."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
from fastapi import APIRouter

from kgl_auth.api import oidc_elsewhere, oidc_metadata, oidc_pages, oidc_token, signing_keys
from kgl_auth.authority import LocalAuthority
from kgl_auth.issuer import Issuer
from kgl_auth.key_rotation import KeyRotation
from kgl_auth.settings import AuthSettings
from kgl_auth.stores.accounts import Accounts
from kgl_auth.stores.builtin_provider import BuiltInProvider
from kgl_auth.stores.identity_provider import IdentityProvider
from kgl_auth.stores.key_ring import KeyRing
from kgl_auth.stores.password_checker import PasswordChecker
from kgl_servicekit.database.engine import Database
from kgl_servicekit.http.health import Check, OptionalCheck
from kgl_servicekit.identity.issuer import marks_of
from kgl_servicekit.identity.tokens import TokenVerifier
from kgl_servicekit.service import Loop
from kgl_servicekit.settings import NotConfigured


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderParts:
    """What `bootstrap.build` puts in place."""

    provider: IdentityProvider
    accounts: Accounts
    authority: LocalAuthority
    routers: Sequence[APIRouter]
    loops: Sequence[Loop]
    builtin: Issuer | None = None
    checks: Mapping[str, Check] = field(default_factory=dict)
    resources: Sequence[Callable[[], AbstractAsyncContextManager[Any]]] = ()


def built_in(settings: AuthSettings, database: Database) -> ProviderParts:
    """This service's own issuer. Raises NotConfigured when the settings name another one."""
    if settings.issuer_url != settings.own_issuer_url:
        raise NotConfigured("KGL_ISSUER names another issuer than the built-in one; unset it, or set KGL_IDENTITY")
    key_ring = KeyRing(database)
    issuer = Issuer(database, settings, key_ring, PasswordChecker(settings.hash_cost))
    return ProviderParts(
        provider=BuiltInProvider(database, settings, issuer),
        accounts=issuer,
        builtin=issuer,
        authority=LocalAuthority(database, TokenVerifier(key_ring, settings.issuer_url), settings.session_cookie),
        routers=(oidc_metadata.router, oidc_pages.router, oidc_token.router, signing_keys.router),
        loops=(KeyRotation(database, timedelta(seconds=settings.signing_key_seconds)).run,),
    )


def keycloak(
    settings: AuthSettings, database: Database, transport: httpx.AsyncBaseTransport | None = None
) -> ProviderParts:
    """A realm of Keycloak, which may be out for a while: keys and known logins go on without it."""
    # loaded here, so that a process with the built-in issuer does without the client libraries
    from kgl_auth.keycloak_watch import KeycloakWatch
    from kgl_auth.stores.keycloak import Keycloak
    from kgl_auth.stores.keycloak_accounts import KeycloakAccounts
    from kgl_auth.stores.keycloak_admin import KeycloakUsers
    from kgl_auth.stores.keycloak_provider import KeycloakProvider

    realm = Keycloak(settings, transport)
    users = KeycloakUsers(realm)
    tokens = TokenVerifier(realm.keys, settings.issuer_url, marks=marks_of(settings))
    provider = KeycloakProvider(database, realm, users, tokens)

    @asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        try:
            await realm.check_settings()
            await users.check_rights()
            yield
        finally:
            await realm.close()

    return ProviderParts(
        provider=provider,
        accounts=KeycloakAccounts(database, settings, users),
        authority=LocalAuthority(database, tokens, settings.session_cookie, provider),
        routers=(oidc_elsewhere.router,),
        loops=(KeycloakWatch(database, users, settings).run,),
        checks={"keycloak": OptionalCheck(realm.ping)},
        resources=(opened,),
    )
