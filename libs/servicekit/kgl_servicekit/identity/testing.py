"""Typed fakes for tests: a signer of tokens, a replica, and an authority that knows whom it was told of."""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from joserfc import jwt
from joserfc.jwk import RSAKey

from kgl_servicekit.errors import Problem
from kgl_servicekit.identity.checked import Checked, WorkspaceChoice
from kgl_servicekit.identity.permissions import PERMISSIONS
from kgl_servicekit.identity.problems import TokenInvalid, WorkspaceDenied
from kgl_servicekit.identity.replica import Snapshot

ISSUER = "http://localhost:8080/auth/v1/oidc"


class TokenSigner:
    """Signs access tokens as the issuer does; also its JWKS source."""

    def __init__(self, issuer: str = ISSUER, kid: str = "test-key") -> None:
        self.issuer = issuer
        self.kid = kid
        self.private = RSAKey.generate_key(2048)

    def jwks(self) -> dict[str, Any]:
        """The document that the issuer publishes."""
        public = {**self.private.as_dict(private=False), "kid": self.kid, "use": "sig", "alg": "RS256"}
        return {"keys": [public]}

    async def key(self, kid: str) -> RSAKey | None:
        return self.private if kid == self.kid else None

    def claims(self, user_id: UUID | None = None, **changes: Any) -> dict[str, Any]:
        """The claims of a good token; a change to None leaves the claim out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": "kgl",
            "sub": str(user_id or uuid4()),
            "sid": "session-1",
            "azp": "web",
            "iat": now,
            "exp": now + 300,
            "scope": "openid",
        }
        return {name: value for name, value in {**claims, **changes}.items() if value is not None}

    def token(self, user_id: UUID | None = None, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """A signed token; `header` and `changes` replace members of its header and claims."""
        full = {"alg": "RS256", "typ": "at+jwt", "kid": self.kid, **(header or {})}
        return jwt.encode(full, self.claims(user_id, **changes), self.private, default_type=None)


class FakeReplica:
    """A replica in memory. `age` in seconds; `outage` is raised instead of an answer."""

    def __init__(self) -> None:
        self.rows: dict[str, Mapping[str, Any]] = {}
        self.age = 0.0
        self.reads = 0
        self.outage: Exception | None = None

    async def read(self, keys: Sequence[str]) -> Snapshot:
        self.reads += 1
        if self.outage is not None:
            raise self.outage
        of_rows = {f"workspace:{self.rows[key].get('workspace_id')}" for key in keys if key in self.rows}
        return Snapshot({key: self.rows[key] for key in {*keys, *of_rows} if key in self.rows}, self.age)

    async def workspaces(self, user_id: UUID) -> list[WorkspaceChoice]:
        ids = [key.split(":")[1] for key in self.rows if key.startswith("membership:") and key.endswith(str(user_id))]
        return [WorkspaceChoice.model_validate({"id": id, **self.rows[f"workspace:{id}"]}) for id in ids]


class FakeAuthority:
    """Admits those of whom it was told, in their one workspace."""

    def __init__(self) -> None:
        self.session_cookie: str | None = None
        self.problem: Problem | None = None
        self._admitted: dict[str, Checked] = {}
        self._choices: dict[UUID, list[WorkspaceChoice]] = {}

    def user(self, workspace: UUID, *permissions: str) -> dict[str, str]:
        """The headers of a new user with these permissions (all, without any) in this workspace."""
        user_id = uuid4()
        checked = Checked(
            principal=f"user:{user_id}",
            user_id=user_id,
            workspace_id=workspace,
            permissions=frozenset(permissions) or PERMISSIONS,
        )
        self._choices[user_id] = [WorkspaceChoice(id=workspace, slug=f"w{workspace.hex[:8]}", name="Workspace")]
        return {"Authorization": self.admit(checked), "Kgl-Workspace": str(workspace)}

    def api_key(self, workspace: UUID, *permissions: str, module: str | None = None) -> dict[str, str]:
        """The headers of a new API key with these permissions in this workspace."""
        checked = Checked(
            principal=f"key:{uuid4().hex[:16]}",
            workspace_id=workspace,
            permissions=frozenset(permissions) or PERMISSIONS,
            module=module,
        )
        return {"Authorization": self.admit(checked)}

    def admit(self, checked: Checked, scheme: str = "Bearer") -> str:
        """A new credential for this principal."""
        authorization = f"{scheme} {uuid4()}"
        self._admitted[authorization] = checked
        return authorization

    async def check(self, authorization: str, workspace_hint: str | None, *, reading: bool) -> Checked:
        if self.problem is not None:
            raise self.problem
        checked = self._admitted.get(authorization)
        if checked is None:
            raise TokenInvalid
        if workspace_hint is not None and workspace_hint != str(checked.workspace_id):
            raise WorkspaceDenied
        if workspace_hint is None and checked.user_id is not None:
            instance = frozenset(name for name in checked.permissions if name.startswith("instance:"))
            return Checked(principal=checked.principal, user_id=checked.user_id, permissions=instance)
        return checked

    async def workspaces(self, user_id: UUID) -> Sequence[WorkspaceChoice]:
        return self._choices.get(user_id, [])
