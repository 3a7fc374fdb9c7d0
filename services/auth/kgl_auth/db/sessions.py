"""Statements about logins: sessions, codes, refresh tokens, and the cookies of browsers."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from kgl_auth.domain.bearer_secrets import digest
from kgl_servicekit.database.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginSession:
    """A login of a user at a client, with the user's present name and address."""

    id: str
    user_id: UUID
    email: str
    name: str
    client_id: str
    scope: str
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None

    def active(self, at: datetime) -> bool:
        """Whether tokens of this session are still good."""
        return self.ended_at is None and at < self.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """An authorization code's row."""

    session_id: str
    redirect_uri: str
    code_challenge: str
    nonce: str | None
    expires_at: datetime
    used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken:
    """A refresh token's row."""

    session_id: str
    expires_at: datetime
    used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserSession:
    """What stands behind a browser's cookie."""

    session_id: str
    user_id: UUID
    sealed_refresh_token: bytes
    expires_at: datetime


_SESSION = """
select s.id, s.user_id, u.email, u.name, s.client_id, s.scope, s.created_at, s.expires_at, s.ended_at
from login_session s join user_account u on u.id = s.user_id where s.id = $1
"""


async def add_session(
    tx: Transaction, *, session_id: str, user_id: UUID, client_id: str, scope: str, expires_at: datetime
) -> None:
    """Record a login."""
    await tx.execute(
        """insert into login_session (id, user_id, client_id, scope, created_at, expires_at)
           values ($1, $2, $3, $4, $5, $6)""",
        session_id,
        user_id,
        client_id,
        scope,
        tx.now,
        expires_at,
    )


async def list_live_sessions(tx: Transaction, user_id: UUID) -> list[str]:
    """The `sid` of each login of a user that has not ended."""
    rows = await tx.fetch(
        "select id from login_session where user_id = $1 and ended_at is null and expires_at > $2 order by id",
        user_id,
        tx.now,
    )
    return [row["id"] for row in rows]


async def list_users_with_sessions(tx: Transaction, after: UUID | None) -> list[UUID]:
    """Up to 100 users with a login that has not ended, in order of their ids, from behind `after`."""
    rows = await tx.fetch(
        """select distinct user_id from login_session where ended_at is null and expires_at > $1
           and ($2::uuid is null or user_id > $2) order by user_id limit 100""",
        tx.now,
        after,
    )
    return [row["user_id"] for row in rows]


async def find_session(tx: Transaction, session_id: str, *, lock: bool = False) -> LoginSession | None:
    """A login by its `sid`; `lock` makes everything that its tokens do wait for this transaction."""
    row = await tx.fetchrow(_SESSION + (" for no key update of s" if lock else ""), session_id)
    return None if row is None else LoginSession(**row)


async def end_session(tx: Transaction, session_id: str, reason: str) -> UUID | None:
    """End a login; the answer is its user, None when it had ended or never was."""
    user_id: UUID | None = await tx.fetchval(
        """update login_session set ended_at = $2, end_reason = $3 where id = $1 and ended_at is null
           returning user_id""",
        session_id,
        tx.now,
        reason,
    )
    await tx.execute("delete from browser_session where session_id = $1", session_id)
    return user_id


async def add_ended_session(
    tx: Transaction, *, session_id: str, user_id: UUID, client_id: str, reason: str, expires_at: datetime
) -> bool:
    """Record a login that ended before it was seen here; False when it was seen."""
    added = await tx.fetchval(
        """insert into login_session (id, user_id, client_id, scope, created_at, expires_at, ended_at, end_reason)
           values ($1, $2, $3, '', $4, $5, $4, $6) on conflict (id) do nothing returning true""",
        session_id,
        user_id,
        client_id,
        tx.now,
        expires_at,
        reason,
    )
    return bool(added)


async def add_code(tx: Transaction, code: str, row: Code) -> None:
    """Remember a code by its hash."""
    await tx.execute(
        """insert into authorization_code (code_hash, session_id, redirect_uri, code_challenge, nonce, expires_at)
           values ($1, $2, $3, $4, $5, $6)""",
        digest(code),
        row.session_id,
        row.redirect_uri,
        row.code_challenge,
        row.nonce,
        row.expires_at,
    )


async def use_code(tx: Transaction, code: str) -> Code | None:
    """The code as it was before this use, and used from now on; None for an unknown one."""
    row = await tx.fetchrow(
        """select session_id, redirect_uri, code_challenge, nonce, expires_at, used_at
           from authorization_code where code_hash = $1 for update""",
        digest(code),
    )
    if row is None:
        return None
    await tx.execute(
        "update authorization_code set used_at = coalesce(used_at, $2) where code_hash = $1", digest(code), tx.now
    )
    return Code(**row)


async def add_refresh_token(tx: Transaction, token: str, session_id: str, expires_at: datetime) -> None:
    """Remember a refresh token by its hash."""
    await tx.execute(
        "insert into refresh_token (token_hash, session_id, created_at, expires_at) values ($1, $2, $3, $4)",
        digest(token),
        session_id,
        tx.now,
        expires_at,
    )


async def find_refresh_token(tx: Transaction, token: str) -> RefreshToken | None:
    """A refresh token. Lock its session first, then what is read here stays true."""
    row = await tx.fetchrow(
        "select session_id, expires_at, used_at from refresh_token where token_hash = $1", digest(token)
    )
    return None if row is None else RefreshToken(**row)


async def use_refresh_token(tx: Transaction, token: str) -> None:
    """Mark a refresh token as used; the time of the first use stays."""
    await tx.execute(
        "update refresh_token set used_at = coalesce(used_at, $2) where token_hash = $1", digest(token), tx.now
    )


async def add_browser_session(tx: Transaction, cookie: str, row: BrowserSession) -> None:
    """Bind a cookie to a login, in place of the one that was: a login at another provider goes on in its browser."""
    await tx.execute(
        """insert into browser_session (cookie_hash, session_id, user_id, sealed_refresh_token, created_at, expires_at)
           values ($1, $2, $3, $4, $5, $6) on conflict (session_id) do update
           set cookie_hash = excluded.cookie_hash, sealed_refresh_token = excluded.sealed_refresh_token,
               refreshing_until = null""",
        digest(cookie),
        row.session_id,
        row.user_id,
        row.sealed_refresh_token,
        tx.now,
        row.expires_at,
    )


async def unbind_cookie(tx: Transaction, cookie: str) -> None:
    """Forget a cookie; its login is left as it is."""
    await tx.execute("delete from browser_session where cookie_hash = $1", digest(cookie))


async def take_turn(tx: Transaction, turn: tuple[str, timedelta]) -> bool:
    """Be the one that refreshes the tokens of a cookie, for this long at most; False while another one is."""
    cookie, long = turn
    taken = await tx.fetchval(
        """update browser_session set refreshing_until = $2
           where cookie_hash = $1 and (refreshing_until is null or refreshing_until <= $3) returning true""",
        digest(cookie),
        tx.now + long,
        tx.now,
    )
    return bool(taken)


async def end_turn(tx: Transaction, cookie: str) -> None:
    """Let the next one refresh."""
    await tx.execute("update browser_session set refreshing_until = null where cookie_hash = $1", digest(cookie))


async def find_browser_session(tx: Transaction, cookie: str) -> BrowserSession | None:
    """What stands behind a cookie."""
    row = await tx.fetchrow(
        """select session_id, user_id, sealed_refresh_token, expires_at from browser_session
           where cookie_hash = $1 and expires_at > $2""",
        digest(cookie),
        tx.now,
    )
    return None if row is None else BrowserSession(**row)


async def replace_refresh_token(tx: Transaction, cookie: str, sealed_before: bytes, sealed: bytes) -> None:
    """Keep the next refresh token of a browser, unless a twin of this request has kept its own already."""
    await tx.execute(
        """update browser_session set sealed_refresh_token = $3
           where cookie_hash = $1 and sealed_refresh_token = $2""",
        digest(cookie),
        sealed_before,
        sealed,
    )
