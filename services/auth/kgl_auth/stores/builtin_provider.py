"""The built-in issuer as identity provider of this site's own browser flow, in the same process."""

from uuid import UUID

from kgl_auth.domain.oidc import BROWSER_CLIENT, authorization_url
from kgl_auth.issuer import Issuer, by_user
from kgl_auth.settings import AuthSettings
from kgl_auth.stores.identity_provider import AccessToken, LoginRefused
from kgl_auth.use_cases.end_session import EndSession, end_session
from kgl_auth.use_cases.redeem import Keep, Refused
from kgl_servicekit.database.engine import Database


class BuiltInProvider:
    """An `IdentityProvider`. Its client is public by PKCE, but no request from outside can be this client."""

    takes_used_tokens = True

    def __init__(self, database: Database, settings: AuthSettings, issuer: Issuer) -> None:
        self._database = database
        self._settings = settings
        self._issuer = issuer

    async def authorization_url(self, *, state: str, nonce: str, code_challenge: str) -> str:
        return authorization_url(
            f"{self._settings.issuer_url}/authorize",
            client_id=BROWSER_CLIENT,
            redirect_uri=self._settings.callback_url,
            state=state,
            nonce=nonce,
            code_challenge=code_challenge,
        )

    async def exchange(self, *, code: str, verifier: str, nonce: str, keep: Keep) -> None:
        outcome = await self._issuer.redeem_code(
            code=code,
            client_id=BROWSER_CLIENT,
            redirect_uri=self._settings.callback_url,
            verifier=verifier,
            nonce=nonce,
            keep=keep,
        )
        if isinstance(outcome, Refused):
            raise LoginRefused(outcome.reason)

    async def refresh(self, refresh_token: str, keep: Keep) -> AccessToken:
        outcome = await self._issuer.redeem_refresh_token(refresh_token, BROWSER_CLIENT, keep)
        if isinstance(outcome, Refused):
            raise LoginRefused(outcome.reason)
        return AccessToken(text=outcome.access_token, expires_in=outcome.expires_in)

    async def end(self, session_id: str, user_id: UUID, refresh_token: str) -> None:
        await self._database.run((), end_session, EndSession(session_id=session_id), cause=by_user(user_id))
