"""The first start of an installation: somebody must own it."""

import asyncio
from dataclasses import dataclass, field
from uuid import UUID

from kgl_auth.db import api_keys, members, users, workspaces
from kgl_auth.domain.announcements import membership_changed
from kgl_auth.domain.emails import account_name
from kgl_auth.domain.identity import User, Workspace
from kgl_auth.domain.password_hashing import HashCost, hash_password
from kgl_auth.domain.roles import OWNER, permissions_of
from kgl_auth.problems import SlugTaken
from kgl_auth.use_cases.change_key import CreateKey, NewApiKey, create_key
from kgl_auth.use_cases.open_workspace import open_workspace
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity.credential import ApiKey
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE

_OPERATOR = "operator"
_KEY_NAME = "First owner"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateFirstOwner:
    """Who owns the installation, and the slug of their workspace; `api_key` is drawn here if it is not given.

    `user_id` is that of the account at another identity provider, which then keeps the password.
    """

    email: str
    password: str = field(repr=False)
    name: str
    workspace_slug: str
    api_key: ApiKey | None = None
    user_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstOwner:
    """The owner and the workspace; the key with its secret when they were made by this very call, else None."""

    user_id: UUID
    workspace_id: UUID
    workspace_slug: str
    api_key: NewApiKey | None


async def create_first_owner(tx: Transaction, command: CreateFirstOwner) -> FirstOwner:
    """Make user, workspace and API key, and make the user operator of the instance; a second call changes nothing.

    A known account keeps its password. The key has all permissions of an owner and of the operator. Raises
    SlugTaken (409) when somebody else owns the workspace.
    """
    await tx.execute("select pg_advisory_xact_lock(hashtext('kgl_auth.first_owner'))")
    user = await _owner(tx, command)
    workspace = await workspaces.find_workspace_by_slug(tx, command.workspace_slug)
    if workspace is None:
        workspace = await open_workspace(tx, command.workspace_slug, command.name, user.id)
        if workspace is None:
            raise SlugTaken()
        await members.put_member(tx, INSTANCE_WORKSPACE, user.id, [_OPERATOR])
        await tx.emit(membership_changed(INSTANCE_WORKSPACE, user.id, (_OPERATOR,)), instance=True)
        made: NewApiKey | None = await _key(tx, workspace, command.api_key)
    else:
        if OWNER not in (await workspaces.find_roles(tx, workspace.id, user.id) or ()):
            raise SlugTaken()
        given = command.api_key
        is_new = given is not None and await api_keys.find_key(tx, given.id) is None
        made = await _key(tx, workspace, given) if is_new else None
    return FirstOwner(user_id=user.id, workspace_id=workspace.id, workspace_slug=workspace.slug, api_key=made)


async def _key(tx: Transaction, workspace: Workspace, given: ApiKey | None) -> NewApiKey:
    permissions = permissions_of([OWNER, _OPERATOR])
    wanted = CreateKey(
        workspace_id=workspace.id,
        name=_KEY_NAME,
        permissions=permissions,
        own=frozenset(permissions),
        given=given,
    )
    return await create_key(tx, wanted)


async def _owner(tx: Transaction, command: CreateFirstOwner) -> User:
    email = account_name(command.email)
    if command.user_id is not None:
        return await _owner_from_provider(tx, command.user_id, email, command.name)
    known = await users.find_account(tx, email)
    if known is not None:
        return known.user
    user = User(id=tx.new_id("user"), email=email, name=command.name, created_at=tx.now)
    password_hash = await asyncio.to_thread(hash_password, command.password, HashCost())
    if not await users.add_user(tx, user, password_hash):
        known = await users.find_account(tx, email)  # registered since we looked, and committed
        assert known is not None
        return known.user
    await tx.audit("user.register", f"user:{user.id}", details={"first_owner": True})
    return user


async def _owner_from_provider(tx: Transaction, user_id: UUID, email: str, name: str) -> User:
    known = await users.lock_user(tx, user_id)
    if known is not None:
        return known.user
    await users.release_email(tx, email, user_id)
    user = User(id=user_id, email=email, name=name, created_at=tx.now)
    await users.add_user(tx, user, None)
    await tx.audit("user.register", f"user:{user.id}", details={"first_owner": True})
    return user
