"""Locks on files, which the kernel takes back when their process ends, however that ends (flock(2))."""

import fcntl
from typing import IO


def alone(file: IO[str]) -> bool:
    """Take the lock for this file alone, or turn the shared one into that; False while others hold it.

    A shared lock may be lost by this, so it is for who leaves.
    """
    return _taken(file, fcntl.LOCK_EX)


def shared(file: IO[str]) -> bool:
    """Take the lock beside others that share it; False while somebody holds it alone."""
    return _taken(file, fcntl.LOCK_SH)


def _taken(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
