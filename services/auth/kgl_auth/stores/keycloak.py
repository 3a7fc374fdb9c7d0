"""Keycloak as an OpenID provider, spoken to over the back channel.

Addresses are Keycloak's own, not those of its discovery document: that one names the public address, which
services may not reach.
"""

from typing import Any
from uuid import UUID

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from loguru import logger
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kgl_auth.domain.token_text import header_of
from kgl_auth.problems import ProviderUnavailable
from kgl_auth.settings import AuthSettings
from kgl_auth.stores.identity_provider import LoginRefused
from kgl_servicekit.identity.issuer import trust_of
from kgl_servicekit.identity.jwks import http_jwks
from kgl_servicekit.settings import NotConfigured

TIMEOUT = httpx.Timeout(5.0, connect=1.0)
PING_TIMEOUT = 1.5
_ALGORITHM = "RS256"
_RETRY_AFTER = 5


class GivenTokens(BaseModel):
    """What the token endpoint answers."""

    model_config = ConfigDict(frozen=True)

    access_token: str = Field(repr=False)
    refresh_token: str = Field(repr=False)
    id_token: str | None = Field(default=None, repr=False)
    expires_in: int


class Keycloak:
    """One realm, as our confidential client there. Every method raises ProviderUnavailable while it is out."""

    def __init__(self, settings: AuthSettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.settings = settings
        self.http = httpx.AsyncClient(
            verify=trust_of(settings) if transport is None else True,
            transport=transport,
            trust_env=False,
            timeout=TIMEOUT,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=20),
        )
        self.keys = http_jwks(self.http, settings.keys_url)
        self._realm = f"{settings.keycloak_url}/realms/{settings.keycloak_realm}"
        self._client = {"client_id": settings.keycloak_client_id, "client_secret": settings.keycloak_secret}

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def ping(self) -> None:
        """Ask for the realm; raises ProviderUnavailable after 1.5 s at most."""
        try:
            response = await self.http.get(self._realm, timeout=PING_TIMEOUT)
        except httpx.HTTPError as error:
            raise _out(type(error).__name__) from error
        if response.status_code != 200:
            raise _out(f"status {response.status_code}")

    async def check_settings(self) -> None:
        """Raise NotConfigured for what an operator has set wrong; what cannot be known now is no mistake."""
        try:
            response = await self.http.get(f"{self._realm}/.well-known/openid-configuration")
            answer = await self._post("token", grant_type="client_credentials")
        except (httpx.HTTPError, ProviderUnavailable) as error:
            logger.bind(error=type(error).__name__).warning("keycloak.unreachable_at_start")
            return
        if response.status_code == 404:
            raise NotConfigured(f"KGL_KEYCLOAK_REALM: Keycloak has no realm {self.settings.keycloak_realm!r}")
        issuer = _json(response).get("issuer")
        if response.status_code == 200 and issuer != self.settings.issuer_url:
            raise NotConfigured(
                f"KGL_ISSUER is {self.settings.issuer_url}, and Keycloak calls itself {issuer}; "
                "let KC_HOSTNAME be KGL_PUBLIC_URL, or set KGL_ISSUER"
            )
        if answer.status_code in {400, 401}:
            raise NotConfigured(
                "KGL_KEYCLOAK_CLIENT_ID or KGL_KEYCLOAK_CLIENT_SECRET is refused by Keycloak: "
                f"{_json(answer).get('error_description', 'no reason given')}"
            )

    async def redeem_code(self, code: str, verifier: str) -> GivenTokens:
        """Tokens for an authorization code; raises LoginRefused."""
        return await self._tokens(
            grant_type="authorization_code",
            code=code,
            redirect_uri=self.settings.callback_url,
            code_verifier=verifier,
        )

    async def refresh(self, refresh_token: str) -> GivenTokens:
        """Tokens for a refresh token, which is used up by it; raises LoginRefused."""
        return await self._tokens(grant_type="refresh_token", refresh_token=refresh_token)

    async def own_token(self) -> dict[str, Any]:
        """A token of our service account, for the admin API."""
        answer = await self._post("token", grant_type="client_credentials")
        if answer.status_code != 200:
            raise _out(f"our client is refused with {answer.status_code}")
        return _json(answer)

    async def log_out(self, refresh_token: str) -> None:
        """End the login behind a refresh token, for all its clients; nothing happens when it has ended."""
        answer = await self._post("logout", refresh_token=refresh_token)
        if answer.status_code not in {200, 204, 400}:
            raise _out(f"logout answered {answer.status_code}")

    async def check_id_token(self, token: str | None, nonce: str, user_id: UUID) -> None:
        """Raise LoginRefused unless this ID token is ours, of this user, and answers the request with this nonce."""
        claims = await self._id_claims(token or "")
        audience = claims.get("aud")
        ours = audience == self.settings.keycloak_client_id or audience == [self.settings.keycloak_client_id]
        if not ours or claims.get("iss") != self.settings.issuer_url or claims.get("typ") != "ID":
            raise LoginRefused("the ID token is another one's")
        if claims.get("nonce") != nonce or claims.get("sub") != str(user_id):
            raise LoginRefused("the ID token answers another request")

    async def _id_claims(self, token: str) -> dict[str, Any]:
        try:
            key = await self.keys.key(str(header_of(token)["kid"]))
            return {} if key is None else dict(jwt.decode(token, key, algorithms=[_ALGORITHM]).claims)
        except (JoseError, ValueError, KeyError) as wrong:
            raise LoginRefused("the ID token cannot be read") from wrong

    async def _tokens(self, **form: str) -> GivenTokens:
        answer = await self._post("token", **form)
        if answer.status_code == 400:
            raise LoginRefused(str(_json(answer).get("error_description", "refused by Keycloak")))
        if answer.status_code != 200:
            raise _out(f"the token endpoint answered {answer.status_code}")
        try:
            return GivenTokens.model_validate(_json(answer))
        except ValidationError as wrong:
            raise _out("the token endpoint's answer cannot be read") from wrong

    async def _post(self, endpoint: str, **form: str) -> httpx.Response:
        try:
            address = f"{self._realm}/protocol/openid-connect/{endpoint}"
            return await self.http.post(address, data={**self._client, **form})
        except httpx.HTTPError as error:
            raise _out(type(error).__name__) from error


def _out(reason: str) -> ProviderUnavailable:
    logger.bind(reason=reason).warning("keycloak.unavailable")
    return ProviderUnavailable(retry_after=_RETRY_AFTER)


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
