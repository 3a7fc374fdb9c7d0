"""While a schedule runs, the clock, identifiers and chance of the kit are those of the schedule."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import uuid_utils

from kgl_servicekit import ids
from kgl_servicekit.database import transaction
from kgl_servicekit.events import alone, consumer, redrive, relay_shards
from tests.simulation.loop import PROCESS, Loop

BEGIN = datetime(2030, 1, 1, 12, tzinfo=UTC)


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


def _clock(loop: Loop) -> type[datetime]:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return BEGIN + timedelta(seconds=loop.now)

    return Clock


def numbered_ids(seed: int) -> Callable[[], UUID]:
    """Identifiers of version 7 that come in the same order every time."""
    state = [0]

    def make() -> UUID:
        state[0] += 1
        return UUID(int=((0x0198_0000_0000 + state[0]) << 80) | (7 << 76) | (2 << 62) | ((seed & 0xFFFF_FFFF) << 16))

    return make


@contextmanager
def determined(seed: int, loop: Loop) -> Iterator[None]:
    """Within this, nothing depends on the machine."""
    make = numbered_ids(seed)
    uuids = SimpleNamespace(
        uuid7=lambda: SimpleNamespace(bytes=make().bytes), uuid5=uuid_utils.uuid5, UUID=uuid_utils.UUID
    )
    clock, gates = _clock(loop), _Gates()
    replaced: list[tuple[Any, str, Any]] = [
        (time, "monotonic", loop.time),
        (ids, "uuid_utils", uuids),
        (transaction, "datetime", clock),
        (redrive, "datetime", clock),
        (relay_shards, "uuid4", make),
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
