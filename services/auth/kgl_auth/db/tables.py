"""The tables of the auth service. Statements about them are in the modules beside this one.

Secrets are kept as hashes: what is stolen here opens nothing. The signing key's private half is the
exception; whoever can read it can be anyone, so this database has an owner and a service role of its own.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, DateTime, Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from kgl_servicekit.database.core_schema import SOURCE, service_registry

TIME = DateTime(timezone=True)


class Base(SQLModel, registry=service_registry()):
    """The tables of this service."""


class UserRow(Base, table=True):
    """A person's account; without a password for those who come from another identity provider."""

    __tablename__ = "user_account"
    __table_args__ = SOURCE

    id: UUID = Field(primary_key=True)
    email: str = Field(unique=True)
    name: str
    password_hash: str | None = None
    created_at: datetime = Field(sa_type=TIME)
    revoked_before: datetime | None = Field(default=None, sa_type=TIME)


class LoginSessionRow(Base, table=True):
    """One login of a user at a client; the `sid` of its tokens."""

    __tablename__ = "login_session"
    __table_args__ = SOURCE

    id: str = Field(primary_key=True)
    user_id: UUID = Field(foreign_key="user_account.id", index=True)
    client_id: str
    scope: str
    created_at: datetime = Field(sa_type=TIME)
    expires_at: datetime = Field(sa_type=TIME, index=True)
    ended_at: datetime | None = Field(default=None, sa_type=TIME)
    end_reason: str | None = None


class AuthorizationCodeRow(Base, table=True):
    """A code on its way through the browser, and what it must be presented with."""

    __tablename__ = "authorization_code"
    __table_args__ = SOURCE

    code_hash: bytes = Field(primary_key=True, sa_type=LargeBinary)
    session_id: str = Field(foreign_key="login_session.id", index=True, ondelete="CASCADE")
    redirect_uri: str
    code_challenge: str
    nonce: str | None = None
    expires_at: datetime = Field(sa_type=TIME)
    used_at: datetime | None = Field(default=None, sa_type=TIME)


class RefreshTokenRow(Base, table=True):
    """One refresh token of a session; used ones stay, so that their reuse is noticed."""

    __tablename__ = "refresh_token"
    __table_args__ = SOURCE

    token_hash: bytes = Field(primary_key=True, sa_type=LargeBinary)
    session_id: str = Field(foreign_key="login_session.id", index=True, ondelete="CASCADE")
    created_at: datetime = Field(sa_type=TIME)
    expires_at: datetime = Field(sa_type=TIME)
    used_at: datetime | None = Field(default=None, sa_type=TIME)


class BrowserSessionRow(Base, table=True):
    """A browser's cookie, by its hash, and the refresh token behind it, sealed under the cookie itself."""

    __tablename__ = "browser_session"
    __table_args__ = SOURCE

    cookie_hash: bytes = Field(primary_key=True, sa_type=LargeBinary)
    session_id: str = Field(unique=True)
    user_id: UUID
    sealed_refresh_token: bytes = Field(sa_type=LargeBinary)
    created_at: datetime = Field(sa_type=TIME)
    expires_at: datetime = Field(sa_type=TIME, index=True)
    refreshing_until: datetime | None = Field(default=None, sa_type=TIME)


class SigningKeyRow(Base, table=True):
    """A key pair of the built-in issuer. The newest is `active`, and signs from `signs_from` on; older ones expire."""

    __tablename__ = "signing_key"
    __table_args__ = (Index("uq_signing_key_active", "active", unique=True, postgresql_where=text("active")), SOURCE)

    kid: str = Field(primary_key=True)
    private_jwk: dict[str, Any] = Field(sa_type=JSONB)
    active: bool
    created_at: datetime = Field(sa_type=TIME)
    signs_from: datetime = Field(sa_type=TIME)
    expires_at: datetime | None = Field(default=None, sa_type=TIME)


class AttemptCounterRow(Base, table=True):
    """How often something was tried in the window that began at `started_at`."""

    __tablename__ = "attempt_counter"
    __table_args__ = SOURCE

    scope: bytes = Field(primary_key=True, sa_type=LargeBinary)
    started_at: datetime = Field(sa_type=TIME, index=True)
    attempts: int


class WorkspaceRow(Base, table=True):
    """A tenant."""

    __tablename__ = "workspace"
    __table_args__ = SOURCE

    id: UUID = Field(primary_key=True)
    slug: str = Field(unique=True)
    name: str
    version: int
    created_at: datetime = Field(sa_type=TIME)
    updated_at: datetime = Field(sa_type=TIME)


class MembershipRow(Base, table=True):
    """A user's roles in a workspace; roles of the whole instance stand under the nil id."""

    __tablename__ = "membership"
    __table_args__ = SOURCE

    workspace_id: UUID = Field(primary_key=True)
    user_id: UUID = Field(primary_key=True, foreign_key="user_account.id", index=True)
    roles: list[str] = Field(sa_type=ARRAY(Text))
    created_at: datetime = Field(sa_type=TIME)
    updated_at: datetime = Field(sa_type=TIME)


class GroupGrantRow(Base, table=True):
    """The roles of a member that come from groups of the identity provider, and go with them."""

    __tablename__ = "group_grant"
    __table_args__ = SOURCE

    workspace_id: UUID = Field(primary_key=True)
    user_id: UUID = Field(primary_key=True, foreign_key="user_account.id", index=True)
    roles: list[str] = Field(sa_type=ARRAY(Text))


class ProviderPositionRow(Base, table=True):
    """Up to when the events of the identity provider have been read."""

    __tablename__ = "provider_position"
    __table_args__ = SOURCE

    name: str = Field(primary_key=True)
    read_to: datetime = Field(sa_type=TIME)


class ApiKeyRow(Base, table=True):
    """A key for programs; only the hash of its secret is kept."""

    __tablename__ = "api_key"
    __table_args__ = SOURCE

    id: str = Field(primary_key=True)
    workspace_id: UUID = Field(index=True)
    name: str
    secret_sha256: str
    permissions: list[str] = Field(sa_type=ARRAY(Text))
    module: str | None = None
    created_by: str
    created_at: datetime = Field(sa_type=TIME)
    expires_at: datetime | None = Field(default=None, sa_type=TIME)
    revoked_at: datetime | None = Field(default=None, sa_type=TIME)


class ModuleRow(Base, table=True):
    """A module that is enabled in a workspace, and for what."""

    __tablename__ = "enabled_module"
    __table_args__ = SOURCE

    workspace_id: UUID = Field(primary_key=True)
    name: str = Field(primary_key=True)
    capabilities: list[str] = Field(sa_type=ARRAY(Text))
    mode: str
    deadline_seconds: int
    version: int
    updated_at: datetime = Field(sa_type=TIME)


class AuditChainRow(Base, table=True):
    """The head of a scope's chain: number and hash of its newest record."""

    __tablename__ = "audit_chain"
    __table_args__ = SOURCE

    scope: str = Field(primary_key=True)
    number: int = Field(sa_type=BigInteger)
    hash: bytes = Field(sa_type=LargeBinary)


class AuditRecordRow(Base, table=True):
    """One record of the audit log, written once and never changed; its scope is a workspace or `instance`."""

    __tablename__ = "audit_record"
    __table_args__ = (
        *tuple(
            Index(f"ix_audit_record_{name}", "scope", text(f"(record ->> '{name}'::text)"), "number")
            for name in ("actor", "action", "target")
        ),
        SOURCE,
    )

    scope: str = Field(primary_key=True)
    number: int = Field(primary_key=True, sa_type=BigInteger)
    workspace_id: UUID | None = None
    prev_hash: bytes = Field(sa_type=LargeBinary)
    hash: bytes = Field(sa_type=LargeBinary)
    record: dict[str, Any] = Field(sa_type=JSONB)


METADATA = Base.metadata

UNSCOPED: frozenset[str] = frozenset(
    {
        "user_account",
        "login_session",
        "authorization_code",
        "refresh_token",
        "browser_session",
        "signing_key",
        "attempt_counter",
        "workspace",
        "membership",
        "group_grant",
        "provider_position",
        "api_key",
        "audit_chain",
    }
)
