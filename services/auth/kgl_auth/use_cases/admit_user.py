"""Somebody whom another identity provider vouches for is known here from now on."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from kgl_auth.db import sessions, users
from kgl_auth.db.users import LockedUser
from kgl_auth.domain.group_roles import GroupRolesMap
from kgl_auth.domain.identity import User
from kgl_auth.use_cases.apply_groups import ApplyGroups, apply_groups
from kgl_auth.use_cases.open_workspace import open_personal_workspace
from kgl_auth.use_cases.redeem import Keep, Login
from kgl_servicekit.database.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A user as the identity provider shows them; the address in its stored form, groups by path."""

    user_id: UUID
    email: str
    name: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitSession:
    """A login at the identity provider, as a token that it gave at `issued_at` says. `session_seconds` is its longest.

    `keep` runs in the same transaction with the refresh token, where the login is that of a browser of ours.
    """

    person: Person
    session_id: str
    client_id: str
    scope: str
    issued_at: datetime
    session_seconds: int
    group_roles: GroupRolesMap = field(repr=False)
    refresh_token: str = field(default="", repr=False)
    keep: Keep | None = None


async def admit_session(tx: Transaction, command: AdmitSession) -> bool:
    """Know the user and the login; False when the login has ended here, or its user was put out since.

    Name, address and roles by groups are taken over each time. At first sight the user gets a personal workspace.
    """
    known = await admit_user(tx, command.person)
    if known.revoked_before is not None and command.issued_at < known.revoked_before:
        return False
    session = await sessions.find_session(tx, command.session_id, lock=True)
    expires_at = tx.now + timedelta(seconds=command.session_seconds) if session is None else session.expires_at
    if session is not None and (session.user_id != known.user.id or not session.active(tx.now)):
        return False
    user_id = known.user.id
    if session is None:
        await sessions.add_session(
            tx,
            session_id=command.session_id,
            user_id=user_id,
            client_id=command.client_id,
            scope=command.scope,
            expires_at=expires_at,
        )
        details = {"session": command.session_id, "client": command.client_id}
        await tx.audit("session.login", f"user:{user_id}", details={**details})
    groups = ApplyGroups(user_id=user_id, groups=command.person.groups, group_roles=command.group_roles)
    await apply_groups(tx, groups)
    if command.keep is not None:
        login = Login(
            session_id=command.session_id,
            user_id=user_id,
            refresh_token=command.refresh_token,
            expires_at=expires_at,
        )
        await command.keep(tx, login)
    return True


async def admit_user(tx: Transaction, person: Person) -> LockedUser:
    """The account, which nobody else changes until this transaction ends; made at first sight."""
    known = await users.lock_user(tx, person.user_id)
    if known is not None and (known.user.email, known.user.name) == (person.email, person.name):
        return known
    await users.release_email(tx, person.email, person.user_id)
    if known is not None:
        await users.update_profile(tx, person.user_id, person.email, person.name)
        return LockedUser(
            known.user.model_copy(update={"email": person.email, "name": person.name}), known.revoked_before
        )
    user = User(id=person.user_id, email=person.email, name=person.name, created_at=tx.now)
    if await users.add_user(tx, user, None):
        await tx.audit("user.register", f"user:{user.id}", details={"by": "identity provider"})
        await open_personal_workspace(tx, user)
    found = await users.lock_user(tx, person.user_id)
    assert found is not None
    return found
