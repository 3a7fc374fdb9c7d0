"""Keycloak as identity provider: logins of browsers, and logins that begin at other clients of the realm."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from loguru import logger

from kgl_auth.domain.emails import account_name
from kgl_auth.domain.oidc import authorization_url
from kgl_auth.domain.people import display_name
from kgl_auth.domain.token_text import claims_of
from kgl_auth.issuer import by_user
from kgl_auth.stores.identity_provider import AccessToken, LoginRefused
from kgl_auth.stores.keycloak import GivenTokens, Keycloak
from kgl_auth.stores.keycloak_admin import KeycloakUsers
from kgl_auth.use_cases.admit_user import AdmitSession, Person, admit_session
from kgl_auth.use_cases.end_session import EndSession, end_session
from kgl_auth.use_cases.redeem import Keep
from kgl_servicekit.database.engine import Database
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.identity import credential
from kgl_servicekit.identity.problems import SessionEnded, TokenExpired, TokenInvalid
from kgl_servicekit.identity.tokens import Claims, TokenVerifier


class KeycloakProvider:
    """An `IdentityProvider`. Whom Keycloak vouches for is known here from then on, with a workspace of their own."""

    takes_used_tokens = False

    def __init__(self, database: Database, keycloak: Keycloak, users: KeycloakUsers, tokens: TokenVerifier) -> None:
        self._database = database
        self._keycloak = keycloak
        self._users = users
        self._tokens = tokens
        self._settings = keycloak.settings

    async def authorization_url(self, *, state: str, nonce: str, code_challenge: str) -> str:
        await self._keycloak.ping()
        return authorization_url(
            f"{self._settings.issuer_url}/protocol/openid-connect/auth",
            client_id=self._settings.keycloak_client_id,
            redirect_uri=self._settings.callback_url,
            state=state,
            nonce=nonce,
            code_challenge=code_challenge,
        )

    async def exchange(self, *, code: str, verifier: str, nonce: str, keep: Keep) -> None:
        given = await self._keycloak.redeem_code(code, verifier)
        claims = await self._verified(given)
        await self._keycloak.check_id_token(given.id_token, nonce, claims.user_id)
        await self._admit_browser(given, claims, keep)

    async def refresh(self, refresh_token: str, keep: Keep) -> AccessToken:
        given = await self._keycloak.refresh(refresh_token)
        await self._admit_browser(given, await self._verified(given), keep)
        return AccessToken(text=given.access_token, expires_in=given.expires_in)

    async def end(self, session_id: str, user_id: UUID, refresh_token: str) -> None:
        """End it here first, so that its tokens are refused even while Keycloak is out.

        If Keycloak could not be told, the next login by the same session there is refused, and ends it.
        """
        await self._database.run((), end_session, EndSession(session_id=session_id), cause=by_user(user_id))
        await self._end_there(refresh_token)

    async def admit(self, token: credential.AccessToken, claims: Claims) -> None:
        """Know a login that began at another client of the realm, if it goes on there. Raises SessionEnded (401)."""
        if claims.session_id is None:
            raise SessionEnded
        user, goes_on, groups = await asyncio.gather(
            self._users.find(claims.user_id),
            self._users.has_session(claims.user_id, claims.session_id),
            self._users.groups(claims.user_id),
        )
        if user is None or not user.enabled or not goes_on:
            raise SessionEnded
        person = Person(user_id=user.id, email=user.email, name=display_name(user.name), groups=groups)
        if not await self._admit(person, claims, claims_of(token.text)):
            raise SessionEnded

    async def _verified(self, given: GivenTokens) -> Claims:
        try:
            return await self._tokens.verify(credential.AccessToken(given.access_token))
        except (TokenInvalid, TokenExpired) as wrong:
            logger.bind(problem=wrong.code).error("keycloak.token_refused")
            raise LoginRefused("Keycloak's access token is not valid here") from wrong

    async def _admit_browser(self, given: GivenTokens, claims: Claims, keep: Keep) -> None:
        said = claims_of(given.access_token)
        email = said.get("email") or f"{claims.user_id}@no-address.invalid"
        groups = said.get("groups") or ()
        person = Person(
            user_id=claims.user_id,
            email=account_name(str(email)),
            name=display_name(str(said.get("name") or said.get("preferred_username") or email)),
            groups=tuple(str(group) for group in groups) if isinstance(groups, list) else (),
        )
        if not await self._admit(person, claims, said, refresh_token=given.refresh_token, keep=keep):
            await self._end_there(given.refresh_token)
            raise LoginRefused("this login has ended; the next one has to be a new one")

    async def _admit(self, person: Person, claims: Claims, said: dict[str, Any], **kept: Any) -> bool:
        if claims.session_id is None:
            return False
        command = AdmitSession(
            person=person,
            session_id=claims.session_id,
            client_id=str(said.get("azp")),
            scope=str(said.get("scope")),
            issued_at=datetime.fromtimestamp(claims.issued_at, UTC),
            session_seconds=self._settings.session_seconds,
            group_roles=self._settings.group_roles,
            **kept,
        )
        return await self._database.run((), admit_session, command, cause=by_user(person.user_id))

    async def _end_there(self, refresh_token: str) -> None:
        try:
            await self._keycloak.log_out(refresh_token)
        except Unavailable:
            logger.warning("keycloak.logout_not_told")
