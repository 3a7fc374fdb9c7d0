"""What `kgl dev` takes: seconds until it is ready, memory and CPU while nobody asks it anything.

Memory is the proportional set size (PSS) of all its processes, those of Postgres included: shared pages
count once, divided among those who share them.
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil

from benchmarks.harness import Result, at_most
from kgl_cli.home import Home

FIRST_START = 20.0
SECOND_START = 5.0
IDLE_SECONDS = 20.0
MEMORY_MB = 400.0
CPU_SHARE = 3.0
_LIMIT = 120.0


async def measure() -> list[Result]:
    """Two starts on one new home; the second system is then left alone."""
    with _new_home() as home:
        async with _system(home) as (_, first):
            pass
        async with _system(home) as (processes, second):
            await asyncio.sleep(IDLE_SECONDS)
            before, at = _cpu_seconds(processes.all()), time.monotonic()
            await asyncio.sleep(IDLE_SECONDS)
            share = 100 * (_cpu_seconds(processes.all()) - before) / (time.monotonic() - at)
            own, postgres = _pss_mb(processes.own()), _pss_mb(processes.postgres())
    return [
        at_most("kgl dev, first start", "s", first, FIRST_START),
        at_most("kgl dev, second start", "s", second, SECOND_START),
        at_most("kgl dev idle, memory (PSS) of all", "MB", own + postgres, MEMORY_MB),
        at_most("kgl dev idle, memory (PSS) of its own process", "MB", own, MEMORY_MB),
        at_most("kgl dev idle, CPU of one core", "%", share, CPU_SHARE),
    ]


@contextmanager
def _new_home() -> Iterator[Home]:
    """A home whose parents are open: Postgres, as a user of its own, has to reach its data."""
    with tempfile.TemporaryDirectory(prefix="kgl-bench-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield Home(path)


@asynccontextmanager
async def _system(home: Home) -> AsyncIterator[tuple["_Processes", float]]:
    """A running system and the seconds that it took to be ready; Postgres has ended, too, when this returns."""
    begun = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "kgl_cli.main",
        "dev",
        env={**os.environ, "KGL_HOME": str(home.path)},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_LIMIT):
            while home.running() is None:
                if process.returncode is not None:
                    raise RuntimeError(f"kgl dev ended with {process.returncode} before it was ready")
                await asyncio.sleep(0.02)
        ready = time.monotonic() - begun
        processes = _Processes(home, process.pid)
        yield processes, ready
        last = processes.all()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_LIMIT):
            await process.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, last, 10)
    if alive:
        raise RuntimeError(f"still there after kgl dev has ended: {alive}")


class _Processes:
    """All processes of a system: the command with its children, and Postgres, which is nobody's child."""

    def __init__(self, home: Home, pid: int) -> None:
        self._own = psutil.Process(pid)
        self._postgres = psutil.Process(int((home.postgres / "postmaster.pid").read_text().split()[0]))

    def own(self) -> list[psutil.Process]:
        return [self._own, *self._own.children(recursive=True)]

    def postgres(self) -> list[psutil.Process]:
        return [self._postgres, *self._postgres.children(recursive=True)]

    def all(self) -> list[psutil.Process]:
        return self.own() + self.postgres()


def _pss_mb(processes: list[psutil.Process]) -> float:
    return sum(process.memory_full_info().pss for process in processes) / 1e6


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))
