"""Which side runs on which core, so that neither takes the other's time."""

import os

SERVER_CORE = 0
CLIENT_CORE = 1


def pin(core: int) -> None:
    """Keep this process, and what it starts, on one core; where that cannot be, leave it."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})
