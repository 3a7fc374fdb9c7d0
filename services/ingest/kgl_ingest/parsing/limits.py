"""What a child process may use; set by the child on itself, before it sees a document."""

import ctypes
import os
import resource
import signal
import sys
from dataclasses import asdict, dataclass
from typing import Self

import orjson

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """Address space in bytes, processor seconds per document, documents until the child is replaced."""

    memory_bytes: int = 1 << 30
    cpu_seconds: int = 30
    documents: int = 200

    def encode(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def decode(cls, encoded: str) -> Self:
        return cls(**orjson.loads(encoded))


def confine(limits: ChildLimits) -> None:
    """Cap the memory and the whole life's processor time of this process, and let it leave no core dump."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    lifetime = limits.cpu_seconds * (limits.documents + 1)
    resource.setrlimit(resource.RLIMIT_CPU, (lifetime, lifetime))


def grant_cpu(limits: ChildLimits) -> None:
    """Let the next document use its processor seconds, whatever the ones before it have used; then SIGXCPU."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime) + 1
    _, lifetime = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (min(used + limits.cpu_seconds, lifetime), lifetime))


def die_with(parent: int) -> None:
    """End this process when `parent` dies, however it dies; elsewhere than on Linux the end of stdin does it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)
