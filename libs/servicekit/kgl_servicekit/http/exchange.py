"""What the kit knows of one request while it is handled."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends
from starlette.requests import HTTPConnection
from starlette.types import Scope

from kgl_servicekit.errors import BadRequest
from kgl_servicekit.http.trace import Trace
from kgl_servicekit.identity.checked import Checked, WorkspaceChoice
from kgl_servicekit.identity.problems import CredentialMissing

SCOPE_KEY = "kgl.exchange"


class WorkspaceRequired(BadRequest, code="workspace_required"):
    """Name the workspace by Kgl-Workspace (id or slug), or by ?workspace= on GET; `choices` are yours."""

    choices: list[dict[str, str]]

    @classmethod
    def among(cls, choices: "list[WorkspaceChoice]") -> "WorkspaceRequired":
        return cls(choices=[choice.model_dump(mode="json") for choice in choices])


@dataclass(frozen=True, slots=True)
class RequestCaller:
    """Who makes the request, and in which workspace. `principal` is user:<uuid> or key:<id>."""

    checked: Checked

    @property
    def principal(self) -> str:
        return self.checked.principal

    @property
    def user_id(self) -> UUID | None:
        return self.checked.user_id

    @property
    def workspace_id(self) -> UUID:
        """The workspace of the request; raises WorkspaceRequired on a route that can do without and got none."""
        if self.checked.workspace_id is None:
            raise WorkspaceRequired
        return self.checked.workspace_id

    @property
    def workspace_if_named(self) -> UUID | None:
        """The workspace of the request, or None on a route that can do without."""
        return self.checked.workspace_id

    @property
    def permissions(self) -> frozenset[str]:
        return self.checked.permissions

    @property
    def module(self) -> str | None:
        """The module that the API key speaks for."""
        return self.checked.module

    @property
    def token_expires_at(self) -> datetime | None:
        return self.checked.expires_at


@dataclass(frozen=True, slots=True)
class Reply:
    """What an answer has besides its body; `status` overrides that of the route."""

    headers: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it is sent, and sent again for the same Idempotency-Key."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Exchange:
    """One request and its answer. `headers` are added to whatever is answered, errors too."""

    service: str
    trace: Trace
    method: str
    started: float = field(default_factory=time.perf_counter)
    route: str = "unmatched"
    caller: RequestCaller | None = None
    answer: Answer | None = None
    reply: Reply = field(default_factory=Reply)
    headers: dict[str, str] = field(default_factory=dict)


def exchange_of(connection: HTTPConnection) -> Exchange:
    """The exchange that the connection belongs to."""
    return found_exchange(connection.scope)


def found_exchange(scope: Scope) -> Exchange:
    """The exchange that `Observe` began for this scope."""
    found: Any = scope[SCOPE_KEY]
    assert isinstance(found, Exchange)
    return found


def header(scope: Scope, name: bytes) -> str | None:
    """The first value of a header, by its name in lower case."""
    for present, value in scope["headers"]:
        if present == name:
            return bytes(value).decode("latin-1")
    return None


async def _caller(connection: HTTPConnection) -> RequestCaller:
    caller = exchange_of(connection).caller
    if caller is None:
        raise CredentialMissing
    return caller


Caller = Annotated[RequestCaller, Depends(_caller)]
