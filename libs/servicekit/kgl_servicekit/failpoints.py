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
_DIED = 137


def _armed() -> tuple[str, float]:
    name, _, chance = os.environ.get("KGL_FAILPOINT", "").partition(":")
    if name and name not in NAMES:
        raise ValueError(f"KGL_FAILPOINT names {name!r}; there are {', '.join(NAMES)}")
    if name and os.environ.get("KGL_ENV", "production") == "production":
        raise ValueError("KGL_FAILPOINT is for tests; unset it in production")
    return name, float(chance or 1)


_NAME, _CHANCE = _armed()


def failpoint(name: str) -> None:
    """A place where the process may be made to die."""
    if name == _NAME and random.random() < _CHANCE:  # noqa: S311
        os._exit(_DIED)
