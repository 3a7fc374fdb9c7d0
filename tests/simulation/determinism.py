"""While a schedule runs, the clock, identifiers and chance of the kit are those of the schedule."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

import uuid_utils

from kgl_servicekit import ids
from kgl_servicekit.database import transaction
from kgl_servicekit.events import alone, consumer, outbox, redrive, refill, relay_shards
from tests.simulation.loop import PROCESS, Loop

SHARDS = 4
"""Of the outbox: enough for two relays, and a quarter of the work that a real one's leases make."""
BEGIN = datetime(2030, 1, 1, 12, tzinfo=UTC)


class _Bytes(NamedTuple):
    """What the kit takes of a new identifier."""

    bytes: bytes


class _Gates:
    """`HANDLERS` is one gate for each process."""

    def _gate(self) -> alone.Gate:
        life = PROCESS.get()
        assert life is not None
        gate: alone.Gate = life.memory.setdefault("gate", alone.Gate())
        return gate

    def shared(self) -> Any:
        return self._gate().shared()

    def alone(self) -> Any:
        return self._gate().alone()


def wall_clock(loop: Loop) -> Callable[[], datetime]:
    """The date and time of a loop; asked much more often than it moves on."""
    at, now = loop.now, BEGIN + timedelta(seconds=loop.now)

    def read() -> datetime:
        nonlocal at, now
        if loop.now != at:
            at, now = loop.now, BEGIN + timedelta(seconds=loop.now)
        return now

    return read


def _clock(loop: Loop) -> type[datetime]:
    read = wall_clock(loop)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return read()

    return Clock


def _numbered(seed: int) -> Callable[[], bytes]:
    """Identifiers of version 7 that come in the same order every time."""
    number, low = 0x0198_0000_0000, (7 << 76) | (2 << 62) | ((seed & 0xFFFF_FFFF) << 16)

    def make() -> bytes:
        nonlocal number
        number += 1
        return (number << 80 | low).to_bytes(16, "big")

    return make


@contextmanager
def determined(seed: int, loop: Loop) -> Iterator[None]:
    """Within this, nothing depends on the machine."""
    make = _numbered(seed)
    uuids = SimpleNamespace(uuid7=lambda: _Bytes(make()), uuid5=uuid_utils.uuid5, UUID=uuid_utils.UUID)
    clock, gates = _clock(loop), _Gates()
    replaced: list[tuple[Any, str, Any]] = [
        (time, "monotonic", loop.time),
        (ids, "uuid_utils", uuids),
        (transaction, "datetime", clock),
        (redrive, "datetime", clock),
        (outbox, "SHARDS", SHARDS),
        (refill, "SHARDS", SHARDS),
        (relay_shards, "uuid4", lambda: UUID(bytes=make())),
        (consumer, "HANDLERS", gates),
        (redrive, "HANDLERS", gates),
    ]
    before = [(place, name, getattr(place, name)) for place, name, _ in replaced]
    state = random.getstate()
    random.seed(seed)
    for place, name, value in replaced:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)
        random.setstate(state)
