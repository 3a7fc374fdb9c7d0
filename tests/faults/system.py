"""What a class of faults needs of a system: its processes and servers, and how they are made to fail.

`embedded.py` has it on one machine without containers. Another implementation runs the same classes.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import asyncpg

from kgl_servicekit.bus.port import Bus
from tests.faults.downstream import Downstream


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended, and after how many seconds."""

    code: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as anybody could put it on the bus; `value` None where the bus knows null."""

    key: str
    headers: Mapping[str, bytes]
    value: bytes | None


class Process(Protocol):
    """An API or a worker. One that ends by itself is started again, until it is stopped or killed."""

    @property
    def name(self) -> str: ...

    async def start(self, *, ready: bool = True) -> None:
        """Start it, and wait until it says that it is ready, if that is asked for."""
        ...

    async def kill(self) -> None:
        """End it with -9."""
        ...

    async def stop(self) -> Ended:
        """End it with SIGTERM."""
        ...

    def change(self, **environment: str) -> None:
        """Set more of its environment, from its next start on; an empty value takes a variable away."""
        ...

    @property
    def deaths(self) -> int:
        """How often it ended though nobody ended it."""
        ...

    def pause(self) -> None:
        """SIGSTOP."""
        ...

    def resume(self) -> None:
        """SIGCONT."""
        ...

    def resources(self) -> Mapping[str, float]:
        """What it holds: `fds`, and `rss` in MB."""
        ...


class Server(Protocol):
    """A server that the processes stand on: the database, the bus, the object store."""

    async def restart(self, *, clean: bool = True) -> None:
        """End it in good order, or with -9, and start it again; wait until it accepts."""
        ...

    async def stop(self, *, clean: bool = False) -> None: ...
    async def start(self) -> None: ...


class Link(Protocol):
    """The way to a server, where a fault proxy stands; `tests.faults.proxy.Proxy` is one."""

    def heal(self) -> None: ...
    def cut(self) -> None: ...
    def half_open(self) -> None: ...
    def delay(self, seconds: float, jitter: float = 0.0) -> None: ...
    def drip(self, bytes_per_second: float) -> None: ...


class EventsSystem(Protocol):
    """The small service of `tests.faults.service`, with fresh stores.

    url          where its API answers
    dsn          a superuser of its database
    downstream   the server outside that its jobs call
    database_link  the way from its processes to the database
    takeover     seconds until what a dead worker held goes to others
    """

    @property
    def url(self) -> str: ...
    @property
    def dsn(self) -> str: ...
    @property
    def takeover(self) -> float: ...
    @property
    def api(self) -> Process: ...
    @property
    def workers(self) -> Sequence[Process]: ...
    @property
    def database(self) -> Server: ...
    @property
    def bus_server(self) -> Server: ...
    @property
    def database_link(self) -> Link | None: ...
    @property
    def downstream(self) -> Downstream: ...

    async def bus(self) -> Bus:
        """The bus, started, for whoever wants to read or repeat what is on it."""
        ...

    async def inject(self, topic: str, records: Sequence[RawRecord]) -> None:
        """Put records on the bus as they are."""
        ...

    async def forget_bus(self) -> None:
        """The bus has lost everything: what was sent, its topics, its groups."""
        ...

    async def refill(self) -> None:
        """Do as an operator does then: `kgl refill`."""
        ...

    async def extra_worker(self) -> Process:
        """One more worker, not started."""
        ...


class DocumentsSystem(Protocol):
    """The five services, and the stores behind them.

    key          of an owner of a workspace, for its API
    drafts_each  how many drafts each document has in the end
    """

    @property
    def key(self) -> str: ...
    @property
    def drafts_each(self) -> int: ...

    def url(self, path: str) -> str:
        """Where the service of a path answers."""
        ...

    def health(self, process: str) -> str:
        """Where a process, such as `ingest-api`, says how it is."""
        ...

    async def rows(self, service: str, statement: str) -> list[asyncpg.Record]:
        """From the database of one service, as a superuser."""
        ...

    async def vectors(self) -> Sequence[tuple[str, str]]:
        """Document and chunk of each vector."""
        ...

    async def objects(self) -> frozenset[str]:
        """The keys of the objects that are there."""
        ...


class System(Protocol):
    """All that faults can be tried on. `settings` are those of the processes (`KGL_...`), beside the usual ones.

    `logs` is the folder of histories, and of what the processes say.
    """

    @property
    def name(self) -> str: ...
    @property
    def logs(self) -> Path: ...

    def events(
        self, *, settings: Mapping[str, str], through_proxy: bool = False
    ) -> AbstractAsyncContextManager[EventsSystem]:
        """The small service, fresh and ready."""
        ...
