"""How commands end: by themselves, or by SIGINT (Ctrl-C) or SIGTERM."""

import sys
from collections.abc import Coroutine
from typing import Any

from kgl_servicekit.process import Stopped, run, until_stopped


def status_of(work: Coroutine[Any, Any, int], *, serves: bool = False) -> int:
    """Run to the end, or to the first signal: the answer is the exit status.

    What serves until it is stopped has done its part then: 0. Other work has not, which one line says: 130 or 143.
    """
    try:
        return run(until_stopped(work))
    except Stopped as stopped:
        if serves:
            return 0
        sys.stderr.write(f"{stopped}\n")
        return stopped.status
