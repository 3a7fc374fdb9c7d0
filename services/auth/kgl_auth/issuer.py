"""The built-in OpenID issuer: accounts with passwords, logins, tokens."""

import math
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from kgl_auth.domain.emails import account_name
from kgl_auth.domain.oidc import AuthorizeRequest
from kgl_auth.domain.tokens import SigningKey, access_claims, id_claims, read_id_token, sign
from kgl_auth.problems import TooManyAttempts, WrongCredentials
from kgl_auth.settings import AuthSettings
from kgl_auth.stores.accounts import Credentials, admit_registration
from kgl_auth.stores.key_ring import KeyRing
from kgl_auth.stores.password_checker import PasswordChecker
from kgl_auth.use_cases.create_first_owner import CreateFirstOwner, FirstOwner, create_first_owner
from kgl_auth.use_cases.end_session import EndSession, end_session
from kgl_auth.use_cases.log_in import BeginLogin, GrantLogin, RefuseLogin, begin_login, grant_login, refuse_login
from kgl_auth.use_cases.redeem import (
    Keep,
    RedeemCode,
    Redeemed,
    RedeemRefreshToken,
    Refused,
    redeem_code,
    redeem_refresh_token,
)
from kgl_auth.use_cases.register_user import Registered, RegisterUser, register_user
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.engine import Database
from kgl_servicekit.ids import uuid7


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What the token endpoint answers. `expires_in` in seconds."""

    access_token: str = field(repr=False)
    id_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int
    scope: str


class Issuer:
    """Each method is one step of a flow; password hashing stays between transactions, never inside one."""

    def __init__(self, database: Database, settings: AuthSettings, keys: KeyRing, passwords: PasswordChecker) -> None:
        self._database = database
        self._settings = settings
        self._passwords = passwords
        self.keys = keys

    async def register(self, typed: Credentials, name: str) -> Registered:
        """See `Accounts.register`."""
        email = await admit_registration(self._database, self._settings, typed)
        user_id = uuid7()
        command = RegisterUser(
            user_id=user_id, email=email, name=name, password_hash=await self._passwords.hash(typed.password)
        )
        return await self._database.run((), register_user, command, cause=by_user(user_id))

    async def create_first_owner(self, command: CreateFirstOwner) -> FirstOwner:
        """See `Accounts.create_first_owner`."""
        return await self._database.run((), create_first_owner, command)

    async def log_in(self, typed: Credentials, request: AuthorizeRequest) -> str:
        """An authorization code for the one who knows the password.

        Raises TooManyAttempts (429) and WrongCredentials (401): both are the same for unknown accounts.
        """
        email = account_name(typed.email)
        begin = BeginLogin(
            email=email,
            address=typed.address,
            per_account=self._settings.login_attempts_per_minute,
            per_address=self._settings.login_attempts_per_address,
        )
        attempt = await self._database.run((), begin_login, begin)
        if attempt.wait is not None:
            raise TooManyAttempts(retry_after=math.ceil(attempt.wait))
        account = attempt.account
        verdict = await self._passwords.check(typed.password, account.password_hash if account else None)
        if account is None or not verdict.right:
            user_id = account.user.id if account else None
            await self._database.run((), refuse_login, RefuseLogin(email=email, address=typed.address, user_id=user_id))
            raise WrongCredentials()
        grant = GrantLogin(
            email=email,
            address=typed.address,
            user_id=account.user.id,
            request=request,
            session_seconds=self._settings.session_seconds,
            code_seconds=self._settings.code_seconds,
            newer_hash=verdict.newer_hash,
        )
        return await self._database.run((), grant_login, grant, cause=by_user(account.user.id))

    async def redeem_code(
        self,
        *,
        code: str,
        client_id: str,
        redirect_uri: str,
        verifier: str,
        nonce: str | None = None,
        keep: Keep | None = None,
    ) -> Tokens | Refused:
        """Tokens for an authorization code; `keep` runs in the transaction that uses it up."""
        key = await self.keys.active()
        command = RedeemCode(
            code=code,
            client_id=client_id,
            redirect_uri=redirect_uri,
            verifier=verifier,
            nonce=nonce,
            idle_seconds=self._settings.session_idle_seconds,
            keep=keep,
        )
        return self._tokens(await self._database.run((), redeem_code, command), key)

    async def redeem_refresh_token(
        self, refresh_token: str, client_id: str, keep: Keep | None = None
    ) -> Tokens | Refused:
        """Tokens for a refresh token, which is replaced; `keep` runs in the transaction that replaces it."""
        key = await self.keys.active()
        command = RedeemRefreshToken(
            refresh_token=refresh_token,
            client_id=client_id,
            idle_seconds=self._settings.session_idle_seconds,
            grace_seconds=self._settings.refresh_grace_seconds,
            keep=keep,
        )
        return self._tokens(await self._database.run((), redeem_refresh_token, command), key)

    async def end_by_id_token(self, id_token: str) -> dict[str, Any] | None:
        """End the session that an ID token of ours speaks of; its claims, or None when it is not ours."""
        claims = read_id_token(id_token, await self.keys.public(), issuer=self._settings.issuer_url)
        if claims is None:
            return None
        command = EndSession(session_id=str(claims["sid"]))
        await self._database.run((), end_session, command, cause=by_user(UUID(claims["sub"])))
        return claims

    def _tokens(self, outcome: Redeemed | Refused, key: SigningKey) -> Tokens | Refused:
        if isinstance(outcome, Refused):
            return outcome
        grant = outcome.grant
        issuer, lifetime = self._settings.issuer_url, self._settings.access_token_seconds
        access = access_claims(grant, issuer=issuer, lifetime=lifetime, token_id=uuid7())
        return Tokens(
            access_token=sign(access, key, kind="at+jwt"),
            id_token=sign(id_claims(grant, issuer=issuer, lifetime=lifetime), key, kind="JWT"),
            refresh_token=outcome.login.refresh_token,
            expires_in=lifetime,
            scope=grant.scope,
        )


def by_user(user_id: UUID) -> Cause:
    """The user as the actor of what follows from their password."""
    return Cause(id=uuid7(), kind="request", actor=f"user:{user_id}")
