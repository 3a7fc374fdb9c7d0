"""Logins of browsers: a cookie on their side, a sealed refresh token on ours.

The cookie's secret is the key of the seal, so the database alone cannot act for anybody.
"""

import asyncio
import time
from datetime import timedelta
from functools import partial

from pydantic import BaseModel, ConfigDict, Field

from kgl_auth.db import sessions
from kgl_auth.db.sessions import BrowserSession
from kgl_auth.domain.bearer_secrets import new_secret, seal, unseal
from kgl_auth.domain.pkce import challenge_of, new_verifier
from kgl_auth.problems import NotLoggedIn, ProviderUnavailable
from kgl_auth.stores.identity_provider import AccessToken, IdentityProvider, LoginRefused
from kgl_auth.use_cases.redeem import Login
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction

_TURN = timedelta(seconds=15)  # longer than any refresh takes
_LONGEST_WAIT = 10.0
_BETWEEN_LOOKS = 0.05


class PendingLogin(BaseModel):
    """What a browser has to bring back from the issuer; it keeps this itself, in a cookie of ten minutes."""

    model_config = ConfigDict(frozen=True)

    state: str = Field(default_factory=new_secret)
    nonce: str = Field(default_factory=new_secret)
    verifier: str = Field(default_factory=new_verifier)
    next: str = "/"


class BrowserSessions:
    """Begins, continues and ends them, whoever the identity provider is."""

    def __init__(self, database: Database, provider: IdentityProvider) -> None:
        self._database = database
        self._provider = provider

    async def begin(self, pending: PendingLogin) -> str:
        """The address at which the browser logs in."""
        return await self._provider.authorization_url(
            state=pending.state, nonce=pending.nonce, code_challenge=challenge_of(pending.verifier)
        )

    async def open(self, pending: PendingLogin, code: str) -> str:
        """The cookie of a new session, for the code that the browser came back with. Raises LoginRefused."""
        cookie = new_secret()
        await self._provider.exchange(
            code=code, verifier=pending.verifier, nonce=pending.nonce, keep=partial(_keep_new, cookie=cookie)
        )
        return cookie

    async def access_token(self, cookie: str) -> AccessToken:
        """A new access token for the browser. Raises NotLoggedIn (401)."""
        if self._provider.takes_used_tokens:
            return await self._refresh(cookie)
        await self._take_turn(cookie)
        try:
            return await self._refresh(cookie)
        finally:
            await self._database.run((), sessions.end_turn, cookie)

    async def end(self, cookie: str) -> None:
        """End the login that is behind the cookie, everywhere; nothing happens when there is none."""
        try:
            session, refresh_token = await self._find(cookie)
        except NotLoggedIn:
            return
        await self._provider.end(session.session_id, session.user_id, refresh_token)

    async def _refresh(self, cookie: str) -> AccessToken:
        session, refresh_token = await self._find(cookie)
        keep = partial(_keep_next, cookie=cookie, before=session.sealed_refresh_token)
        try:
            return await self._provider.refresh(refresh_token, keep)
        except LoginRefused as refused:
            await self._database.run((), sessions.unbind_cookie, cookie)
            raise NotLoggedIn() from refused

    async def _take_turn(self, cookie: str) -> None:
        """Wait until no twin, in whatever process, uses the refresh token of this cookie."""
        give_up = time.monotonic() + _LONGEST_WAIT
        while not await self._database.run((), sessions.take_turn, (cookie, _TURN)):
            await self._find(cookie)
            if time.monotonic() > give_up:
                raise ProviderUnavailable(retry_after=1)
            await asyncio.sleep(_BETWEEN_LOOKS)

    async def _find(self, cookie: str) -> tuple[BrowserSession, str]:
        session = await self._database.run((), sessions.find_browser_session, cookie)
        if session is None:
            raise NotLoggedIn()
        return session, unseal(session.sealed_refresh_token, cookie)


async def _keep_new(tx: Transaction, login: Login, *, cookie: str) -> None:
    row = BrowserSession(
        session_id=login.session_id,
        user_id=login.user_id,
        sealed_refresh_token=seal(login.refresh_token, cookie),
        expires_at=login.expires_at,
    )
    await sessions.add_browser_session(tx, cookie, row)


async def _keep_next(tx: Transaction, login: Login, *, cookie: str, before: bytes) -> None:
    await sessions.replace_refresh_token(tx, cookie, before, seal(login.refresh_token, cookie))
