"""Who may ask for tokens at the Keycloak of the system, besides the system itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kgl_auth.testing_keycloak_server import SPA_CALLBACK, KeycloakRealm


@asynccontextmanager
async def client_of(realm: KeycloakRealm, name: str, audience: str | None) -> AsyncIterator[None]:
    """A public client whose access tokens are for this audience."""
    mapper = {
        "name": "audience",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-audience-mapper",
        "config": {"included.custom.audience": audience, "access.token.claim": "true"},
    }
    client = {"clientId": name, "publicClient": True, "redirectUris": [SPA_CALLBACK]}
    made = await realm.admin(
        "POST", f"/{realm.name}/clients", json={**client, "protocolMappers": [mapper] if audience else []}
    )
    try:
        yield
    finally:
        await realm.admin("DELETE", f"/{realm.name}/clients/{made.headers['location'].rpartition('/')[2]}")
