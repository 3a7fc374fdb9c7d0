"""What a route declares about itself besides its path and schemas."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Literal

from kgl_servicekit.errors import Problem


class Open(Enum):
    """Demands that are no permission."""

    PUBLIC = "public"
    SESSION = "session"


PUBLIC = Open.PUBLIC
"""Nobody has to be known; no credential is looked at."""
SESSION = Open.SESSION
"""Any user, in no workspace; API keys, which are bound to one, are refused."""

Permission = str | Open | None
CacheRule = int | Literal["no-store", "private, no-cache"]


@dataclass(frozen=True, slots=True)
class Deprecation:
    """Since when a route should not be used any more, and from when it will not be there (both UTC)."""

    since: datetime
    sunset: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a route declares besides its path and schemas.

    permission     a permission in the caller's workspace; None: any authenticated caller, who may name a
                   workspace; PUBLIC; SESSION
    or_instance    a permission of the instance that does instead, in any workspace or in none
    problems       the errors that it gives on purpose, for its documentation
    cache          seconds that the client alone may keep the answer, or a Cache-Control value
    upload         the body may be as large as an upload
    deadline       seconds until 503; None for none
    cost           how many requests of the rate limit it counts as
    secret_answer  the answer holds a secret: it is not kept for repeats with the same Idempotency-Key
    """

    permission: Permission
    or_instance: str | None = None
    problems: tuple[type[Problem], ...] = ()
    cache: CacheRule | None = None
    upload: bool = False
    deadline: float | None = 30.0
    cost: int = 1
    secret_answer: bool = False
    deprecation: Deprecation | None = None
