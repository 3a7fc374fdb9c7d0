"""Events of identity, emitted by auth. Each is the full state of its key: the last one by sequence wins."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from kgl_contracts.event import EventData, with_example
from kgl_contracts.topics import IDENTITY

_WORKSPACE = "0198f3a0-0000-7000-8000-000000000010"
_USER = "0198f3a0-0000-7000-8000-000000000011"
_SERVICES = ("auth", "ingest", "graph", "content", "publish")


class WorkspaceChanged(
    EventData, type="identity.workspace.changed.v1", topic=IDENTITY, key="key_id", consumers=_SERVICES
):
    """A workspace, by id and slug."""

    model_config = with_example(
        key_id=f"workspace:{_WORKSPACE}", workspace_id=_WORKSPACE, slug="lab", name="Lab", deleted=False
    )

    key_id: str = Field(description="workspace:<id>")
    workspace_id: UUID
    slug: str
    name: str
    deleted: bool = False


class MembershipChanged(
    EventData, type="identity.membership.changed.v1", topic=IDENTITY, key="key_id", consumers=_SERVICES
):
    """What one user may do in one workspace: roles, and the permissions that they add up to."""

    model_config = with_example(
        key_id=f"membership:{_WORKSPACE}:{_USER}",
        workspace_id=_WORKSPACE,
        user_id=_USER,
        roles=["owner"],
        permissions=["documents:read"],
        deleted=False,
    )

    key_id: str = Field(description="membership:<workspace id>:<user id>")
    workspace_id: UUID
    user_id: UUID
    roles: tuple[str, ...]
    permissions: tuple[str, ...]
    deleted: bool = False


class KeyChanged(EventData, type="identity.key.changed.v1", topic=IDENTITY, key="key_id", consumers=_SERVICES):
    """An API key of a workspace: the hash of its secret, never the secret."""

    model_config = with_example(
        key_id="key:0198f3a000000000",
        api_key_id="0198f3a000000000",
        workspace_id=_WORKSPACE,
        secret_sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",  # noqa: S106
        permissions=["documents:read"],
        module=None,
        expires_at=None,
        revoked=False,
    )

    key_id: str = Field(description="key:<id>")
    api_key_id: str
    workspace_id: UUID
    secret_sha256: str
    permissions: tuple[str, ...]
    module: str | None = Field(default=None, description="the module that this key speaks for")
    expires_at: datetime | None = None
    revoked: bool = False


class SessionRevoked(EventData, type="identity.session.revoked.v1", topic=IDENTITY, key="key_id", consumers=_SERVICES):
    """A login session ended before its tokens did; tokens with this `sid` are refused."""

    model_config = with_example(
        key_id="session:abc", session_id="abc", user_id=_USER, revoked_at="2026-11-23T12:00:00Z"
    )

    key_id: str = Field(description="session:<sid>")
    session_id: str
    user_id: UUID
    revoked_at: datetime


class UserRevoked(EventData, type="identity.user.revoked.v1", topic=IDENTITY, key="key_id", consumers=_SERVICES):
    """A user was disabled, deleted or logged out of everything; tokens that are older are refused, in every session."""

    model_config = with_example(key_id=f"user:{_USER}", user_id=_USER, before="2026-11-23T12:00:00Z")

    key_id: str = Field(description="user:<id>")
    user_id: UUID
    before: datetime = Field(description="tokens issued before this moment, by the issuer's clock, are refused")


class ModuleChanged(EventData, type="identity.module.changed.v1", topic=IDENTITY, key="key_id", consumers=_SERVICES):
    """Where a module is enabled, and for what."""

    model_config = with_example(
        key_id=f"module:{_WORKSPACE}:reader",
        workspace_id=_WORKSPACE,
        module="reader",
        capabilities=["extract", "summarise"],
        mode="required",
        deadline_seconds=600,
        deleted=False,
    )

    key_id: str = Field(description="module:<workspace id>:<name>")
    workspace_id: UUID
    module: str
    capabilities: tuple[str, ...]
    mode: Literal["required", "optional"]
    deadline_seconds: int = Field(ge=1)
    deleted: bool = False


class Ticked(EventData, type="identity.clock.ticked.v1", topic=IDENTITY, key="key_id", consumers=_SERVICES):
    """Once a second: all that auth committed before `at` is in the topic before this event."""

    model_config = with_example(key_id="clock", at="2026-11-23T12:00:00Z")

    key_id: str = "clock"
    at: datetime
