"""Identifiers: time-ordered ones for requests, derived ones where a repeat must name the same thing."""

import base64
import binascii
from typing import Any
from uuid import UUID

import orjson
import uuid_utils
from asyncpg.pgproto.pgproto import UUID as _UUID  # a subclass of the standard one, made in C

_NAMESPACE = uuid_utils.UUID("6b676c00-0000-5000-8000-6b6e6f776c67")


def uuid7() -> UUID:
    """A new time-ordered identifier (RFC 9562, version 7)."""
    return UUID(bytes=uuid_utils.uuid7().bytes)


def uuid7_age(value: UUID, now: float) -> float | None:
    """Seconds between the making of a version 7 identifier and `now` (Unix time); None for other versions."""
    return now - (value.int >> 80) / 1000 if value.version == 7 else None


def derived_id(*parts: object) -> UUID:
    """The identifier (version 5) that these parts always give, so that a repeat names the same thing."""
    return UUID(bytes=uuid_utils.uuid5(_NAMESPACE, "\x1f".join(map(str, parts))).bytes)


def fast_derived_id(cause: UUID, name: str, ordinal: int) -> UUID:
    """`derived_id` of these three, as the database driver's own kind of UUID: a third of the time."""
    return _UUID(uuid_utils.uuid5(_NAMESPACE, f"{cause}\x1f{name}\x1f{ordinal}").bytes)


def fast_uuid7() -> UUID:
    """`uuid7`, as the database driver's own kind of UUID."""
    return _UUID(uuid_utils.uuid7().bytes)


class MalformedCursor(ValueError):
    """The text is no cursor that we gave out."""


def encode_cursor(position: Any) -> str:
    """An opaque cursor for a position in a list (any JSON value)."""
    return base64.urlsafe_b64encode(orjson.dumps(position)).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> Any:
    """The position behind a cursor; raises MalformedCursor."""
    try:
        return orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error) as wrong:
        raise MalformedCursor("the cursor is not one of ours; start the list again without it") from wrong
