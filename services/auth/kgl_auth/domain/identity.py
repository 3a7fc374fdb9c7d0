"""What the service keeps, as its answers show it. Times are UTC."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from kgl_auth.domain.slugs import Slug


def _storable(moment: datetime) -> datetime:
    """A time whose UTC form exists, whatever its offset."""
    if not 1 < moment.year < 9999:
        raise ValueError("this time is out of range")
    return moment


DisplayName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")
]
ModuleName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
Moment = Annotated[AwareDatetime, AfterValidator(_storable)]
Capability = Literal["extract", "summarise", "embed", "publish"]


class Shown(BaseModel):
    """Base of all answers: immutable, and strict about what it is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class User(Shown):
    """A person's account."""

    id: UUID
    email: str
    name: str
    created_at: datetime


class Workspace(Shown):
    """A tenant, by id and slug; `version` counts its changes."""

    id: UUID
    slug: Slug
    name: str
    version: int
    created_at: datetime
    updated_at: datetime


class Member(Shown):
    """A user's roles in a workspace, and the permissions that they add up to."""

    user_id: UUID
    email: str
    name: str
    roles: tuple[str, ...]
    permissions: tuple[str, ...]
    created_at: datetime
    updated_at: datetime


class ApiKey(Shown):
    """A key for programs, without its secret."""

    id: str
    name: str
    permissions: tuple[str, ...]
    module: str | None = None
    created_by: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class Module(Shown):
    """A module that is enabled in the workspace: what for, whether it must answer, and how soon."""

    name: str
    capabilities: tuple[Capability, ...]
    mode: Literal["required", "optional"]
    deadline_seconds: int = Field(description="seconds until an optional module's request is skipped")
    version: int
    updated_at: datetime


class AuditEntry(Shown):
    """One record of the audit log, with its place in the hash chain."""

    number: int
    record_id: UUID
    actor: str
    action: str
    target: str
    outcome: str
    details: dict[str, object]
    at: datetime
    prev_hash: str
    hash: str
