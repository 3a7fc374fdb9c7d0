"""When a key of the issuer is published, signs, and is gone: next, active, retiring, and then no more.

The times are fixed when a key is made, so nothing has to happen at them, and every process comes to the same
answer by its clock. A key is published before it signs, for longer than verifiers keep the keys that they
know (5 minutes, as does whoever honours the Cache-Control of the JWKS); its predecessor stays published until
the last token that it signed has ended. The spare minutes are for clocks that differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

PUBLISHED_BEFORE = timedelta(minutes=15)
LONGEST_TOKEN = timedelta(hours=1)
_SPARE = timedelta(minutes=5)

KeyState = Literal["next", "active", "retiring"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTimes:
    """The life of one key; `expires_at` is set when its successor is made. Times are UTC."""

    kid: str
    created_at: datetime
    signs_from: datetime
    expires_at: datetime | None = None


def published(keys: Sequence[KeyTimes], at: datetime) -> list[KeyTimes]:
    """The keys that verify, the newest first."""
    alive = [key for key in keys if key.expires_at is None or key.expires_at > at]
    return sorted(alive, key=lambda key: (key.signs_from, key.created_at), reverse=True)


def active(keys: Sequence[KeyTimes], at: datetime) -> KeyTimes:
    """The key that signs: the newest whose time has come; LookupError when there are none."""
    alive = published(keys, at)
    if not alive:
        raise LookupError("no key is published")
    return next((key for key in alive if key.signs_from <= at), alive[-1])


def state_of(key: KeyTimes, keys: Sequence[KeyTimes], at: datetime) -> KeyState:
    """How a published key stands among the others."""
    signing = active(keys, at)
    if key.kid == signing.kid:
        return "active"
    return "next" if key.signs_from > signing.signs_from else "retiring"


def signs_from(at: datetime) -> datetime:
    """When a key that is made now begins to sign."""
    return at + PUBLISHED_BEFORE


def ends(successor_signs_from: datetime) -> datetime:
    """When a key is gone whose successor signs from this time."""
    return successor_signs_from + LONGEST_TOKEN + _SPARE
