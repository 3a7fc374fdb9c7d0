"""Named places where a process can be made to die, for tests of what survives it.

`KGL_FAILPOINT=relay.sent:0.05` ends the process, as kill -9 would, with a chance of 5 % each time it passes
that place; refused in production. Without the variable a place costs one comparison.
"""

import os
import random

NAMES: tuple[str, ...] = (
    "transaction.before",
    "transaction.flushed",
    "transaction.committed",
    "relay.read",
    "relay.sent",
    "relay.forgotten",
    "consumer.polled",
    "consumer.settled",
    "consumer.mirrored",
    "hold.written",
    "redrive.peeked",
    "redrive.released",
    "job.claimed",
    "job.done",
    "job.finished",
    "object.written",
)
DIED = 137


_armed: dict[str, float] = {}


def arm(name: str, chance: float) -> None:
    """Make this process die at a place, with this chance each time it passes. Raises ValueError for an unknown one."""
    if name not in NAMES:
        raise ValueError(f"{name!r} is no failpoint; there are {', '.join(NAMES)}")
    _armed[name] = chance


def _from_environment() -> None:
    name, _, chance = os.environ.get("KGL_FAILPOINT", "").partition(":")
    if not name:
        return
    if os.environ.get("KGL_ENV", "production") == "production":
        raise ValueError("KGL_FAILPOINT is for tests; unset it in production")
    arm(name, float(chance or 1))


def failpoint(name: str) -> None:
    """A place where the process may be made to die."""
    if _armed and random.random() < _armed.get(name, 0):  # noqa: S311
        os._exit(DIED)


_from_environment()
