"""The hash chain of the audit log: each record's hash covers the record and the hash before it.

hash = sha256(hash before || canonical JSON of the record); the first record of a scope follows 32 zero bytes.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

GENESIS = bytes(32)
INSTANCE = "instance"
_EXACT = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainedRecord:
    """One record of a scope's chain, numbered from 1."""

    number: int
    workspace_id: UUID | None
    prev_hash: bytes
    hash: bytes
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The number and hash of the newest record: what a truncated chain no longer reaches."""

    number: int = 0
    hash: bytes = GENESIS


@dataclass(frozen=True, slots=True)
class Broken:
    """The first place where the chain does not hold, and why."""

    number: int
    reason: str


def workspace_of(scope: str) -> UUID | None:
    """The workspace of a scope; the instance has none. Raises ValueError for what is neither."""
    return None if scope == INSTANCE else UUID(scope)


def canonical(record: dict[str, Any]) -> bytes:
    """The one JSON text of a record: sorted keys, and one form for each number, whoever stored it meanwhile."""
    return orjson.dumps(storable(record), option=orjson.OPT_SORT_KEYS)


def link(prev_hash: bytes, record: dict[str, Any]) -> bytes:
    """The hash of a record that follows `prev_hash`."""
    return hashlib.sha256(prev_hash + canonical(record)).digest()


def follow(records: Iterable[ChainedRecord], last: ChainHead, kept: ChainHead | None = None) -> ChainHead | Broken:
    """Walk records in order of number, the first of which must follow `last`; the new last one, or the first break.

    An edited, deleted, inserted or moved record is found at its place. `kept` is a head that was seen earlier:
    the record of its number must have its hash.
    """
    for record in records:
        expected = last.number + 1
        if record.number != expected:
            return Broken(expected, f"record {expected} is missing or moved: {record.number} stands in its place")
        if record.prev_hash != last.hash:
            return Broken(record.number, "it does not follow the record before it")
        if record.hash != link(record.prev_hash, record.record):
            return Broken(record.number, "its content is not what was hashed")
        if _scope_of(record) != (INSTANCE if record.workspace_id is None else str(record.workspace_id)):
            return Broken(record.number, "it is filed under another workspace than its own")
        last = ChainHead(record.number, record.hash)
        if kept is not None and kept.number == last.number and kept != last:
            return Broken(last.number, "its hash is not that of the head that was kept")
    return last


def _scope_of(record: ChainedRecord) -> object:
    content: object = record.record  # what the database holds may be any JSON by now
    return content.get("scope") if isinstance(content, dict) else None


def ends(last: ChainHead, head: ChainHead, kept: ChainHead | None = None) -> Broken | None:
    """The break at the end of a chain whose last record is `last`: cut off, or longer than its head says."""
    if last != head:
        return Broken(min(last.number, head.number) + 1, f"the log ends at {last.number}, its head is at {head.number}")
    if kept is not None and kept.number > last.number:
        return Broken(last.number + 1, f"the log ends at {last.number}, the head that was kept is at {kept.number}")
    return None


def storable(value: Any) -> Any:
    """The same JSON value in a form that a JSON store gives back unchanged.

    Stores turn 1e16 into 10000000000000000, have no NaN, and refuse the character NUL.
    """
    if isinstance(value, dict):
        return {storable(key): storable(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [storable(member) for member in value]
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return _number(value)


def _number(value: float) -> float | None:
    try:
        if not math.isfinite(value):
            return None
        if abs(value) > _EXACT:
            return float(value)
    except OverflowError:
        return None
    return int(value) if value == int(value) else value
