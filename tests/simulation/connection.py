"""The kit's own `Database` on the simulated server: only the connection and the wake-ups are made anew."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import asyncpg

from kgl_servicekit.database.engine import Database
from tests.simulation.execution import Answer
from tests.simulation.loop import PROCESS, Life
from tests.simulation.scheduler import Scheduler
from tests.simulation.server import Server, Session


class Row(tuple[Any, ...]):
    """A row as asyncpg gives it: by place, by name, and as pairs."""

    names: dict[str, int]

    def __getitem__(self, at: Any) -> Any:
        return tuple.__getitem__(self, self.names[at] if isinstance(at, str) else at)

    def keys(self) -> Iterator[str]:
        return iter(self.names)

    def items(self) -> Iterator[tuple[str, Any]]:
        return zip(self.names, self, strict=True)


_ROW_TYPES: dict[tuple[str, ...], type[Row]] = {}


def _rows(answer: Answer) -> list[Row]:
    names = tuple(answer.names)
    if names not in _ROW_TYPES:
        _ROW_TYPES[names] = type("Row", (Row,), {"names": {name: place for place, name in enumerate(names)}})
    kind = _ROW_TYPES[names]
    return [kind(row) for row in answer.rows]


class SimulatedConnection:
    """What the kit uses of asyncpg's connection."""

    def __init__(self, scheduler: Scheduler, session: Session, watch: Callable[[str, Sequence[Any]], None]) -> None:
        self._scheduler = scheduler
        self.session = session
        self._watch = watch
        self._open = True

    def is_closed(self) -> bool:
        return not self._open or self.session.closed

    def terminate(self) -> None:
        self._open = False
        self.session.close()

    async def close(self) -> None:
        self.terminate()

    def add_termination_listener(self, _listener: Callable[[Any], None]) -> None:
        """Nobody is told: no use case of a schedule waits for anything but its statements."""

    def remove_termination_listener(self, _listener: Callable[[Any], None]) -> None: ...

    async def _ask(self, sql: str, args: Sequence[Any]) -> Answer:
        if not self._open:
            raise asyncpg.InterfaceError("the connection is closed")
        self._watch(sql, args)
        session = self.session
        if self._unseen(sql) and not session.closed and not self._scheduler.over:
            session.start(sql, args)
            return session.outcome()

        def begin() -> bool:
            return True if session.closed else session.start(sql, args)

        def finish() -> Answer:
            if session.closed:
                self._open = False
                raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
            return session.outcome()

        answer: Answer = await self._scheduler.ask(
            f"{session.name} {_label(sql)}" if self._scheduler.trace is not None else "",
            begin,
            finish,
            self.terminate,
            lambda: True if session.closed else session.go_on(),
            lambda: session.closed or session.may_go_on,
        )
        return answer

    def _unseen(self, sql: str) -> bool:
        """Whether nobody else can tell when it was done: then it is no choice."""
        if sql == "commit":
            return self._scheduler.calm and self.session.has_only_read
        return sql.startswith(("begin", "set "))

    async def fetch(self, sql: str, *args: Any, timeout: float | None = None) -> list[Row]:
        return _rows(await self._ask(sql, args))

    async def fetchrow(self, sql: str, *args: Any, timeout: float | None = None) -> Row | None:
        rows = _rows(await self._ask(sql, args))
        return rows[0] if rows else None

    async def fetchval(self, sql: str, *args: Any, timeout: float | None = None) -> Any:
        rows = (await self._ask(sql, args)).rows
        return rows[0][0] if rows else None

    async def execute(self, sql: str, *args: Any, timeout: float | None = None) -> str:
        return (await self._ask(sql, args)).tag

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        for row in rows:
            await self._ask(sql, row)


def _label(sql: str) -> str:
    words = sql.split()
    if words[0] == "with":
        verbs = [n for n, word in enumerate(words) if word in ("insert", "update", "delete")] or [0]
        words = ["with", "..", *words[verbs[-1] :]]
    return " ".join(words[:5])


class SimulatedSignals:
    """Wake-ups between processes: here at once, elsewhere a little later, or never."""

    def __init__(self, wires: "Wires", life: Life) -> None:
        self._wires = wires
        self._life = life
        self._waiting: defaultdict[str, dict[asyncio.Event, None]] = defaultdict(dict)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def notify(self, channel: str) -> None:
        self.notify_here(channel)
        self._wires.tell(self, channel)

    def notify_here(self, channel: str) -> None:
        for event in self._waiting[channel]:
            event.set()

    def subscribe(self, channel: str) -> asyncio.Event:
        event = asyncio.Event()
        self._waiting[channel][event] = None
        return event

    def unsubscribe(self, channel: str, event: asyncio.Event) -> None:
        self._waiting[channel].pop(event, None)


class Wires:
    """All that hear the signals of one database."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._all: list[tuple[SimulatedSignals, Any]] = []
        self.lossy = False

    def join(self, signals: SimulatedSignals, context: Any) -> None:
        self._all.append((signals, context))

    def tell(self, sender: SimulatedSignals, channel: str) -> None:
        draw = self._scheduler.random.random
        for signals, context in self._all:
            if signals is not sender and not signals._life.dead and not (self.lossy and draw() < 0.3):
                self._scheduler.loop.call_later(draw() * 0.01, signals.notify_here, channel, context=context)


class SimulatedDatabase(Database):
    """The kit's database, with connections to the simulated server."""

    def __init__(
        self,
        server: Server,
        scheduler: Scheduler,
        wires: Wires,
        watch: Callable[[str, Sequence[Any]], None],
        context: Any,
    ) -> None:
        super().__init__("postgresql://simulated", service="counter", pool_size=3)
        life = PROCESS.get()
        assert life is not None
        self._server = server
        self._scheduler = scheduler
        self._watch = watch
        self._life = life
        self.signals = SimulatedSignals(wires, life)  # type: ignore[assignment]
        wires.join(self.signals, context)  # type: ignore[arg-type]

    async def _connect(self) -> Any:
        opened: list[Session] = []

        def begin() -> bool:
            if not getattr(self._server, "out", False):
                opened.append(self._server.connect(self._life.name))
                self._life.sessions.append(opened[0])
            return True

        def finish() -> Session:
            if not opened:
                raise ConnectionRefusedError("the server is out")
            return opened[0]

        session = await self._scheduler.ask("connect", begin, finish)
        return SimulatedConnection(self._scheduler, session, self._watch)
