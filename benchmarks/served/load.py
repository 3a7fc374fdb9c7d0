"""The load of `benchmarks.http`: keep-alive connections that ask, and count what is answered.

`python -m benchmarks.served.load` reads a `Load` as JSON from standard input, and writes a `Measured`.
"""

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import cast

import uvloop

from benchmarks.served.cores import CLIENT_CORE, pin

_END = b"\r\n\r\n"
_LENGTH = b"content-length: "
_TICK = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to ask, for how long (seconds); `rate` in requests a second, None for as many as are answered."""

    port: int
    requests: Sequence[str]
    status: int
    connections: int
    seconds: float
    rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of it. Times are milliseconds, from when a request was due; `wrong` counts other statuses."""

    per_second: float
    p50: float
    p99: float
    wrong: int


class _Run:
    """The state that all connections share: what is asked next, and what was measured."""

    def __init__(self, load: Load) -> None:
        self.expected = f"HTTP/1.1 {load.status} ".encode()
        self.requests = cycle([request.encode("latin-1") for request in load.requests])
        self.paced = load.rate is not None
        self.due: deque[float] = deque()
        self.idle: list[_Connection] = []
        self.seconds: list[float] = []
        self.wrong = 0
        self.ended = False

    def next_due(self) -> float | None:
        """Since when the next request has been due; None when there is none to send now."""
        if self.ended:
            return None
        if not self.paced:
            return time.perf_counter()
        return self.due.popleft() if self.due else None


class _Connection(asyncio.Protocol):
    """Asks, waits for the whole answer, asks again."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._received = b""
        self._since = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self.ask()

    def ask(self) -> None:
        due = self._run.next_due()
        if due is None:
            self._run.idle.append(self)
            return
        self._since = due
        self._transport.write(next(self._run.requests))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(_END)
        if head < 0:
            return
        at = self._received.index(_LENGTH, 0, head) + len(_LENGTH)
        length = int(self._received[at : self._received.index(b"\r\n", at)])
        if len(self._received) < head + len(_END) + length:
            return
        self._run.seconds.append(time.perf_counter() - self._since)
        if not self._received.startswith(self._run.expected):
            self._run.wrong += 1
        self._received = b""
        self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._run.ended:
            self._run.wrong += 1

    def close(self) -> None:
        self._transport.close()


async def _load(load: Load) -> Measured:
    await _first_answer(load)
    run = _Run(load)
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: _Connection(run), "127.0.0.1", load.port))[1]
        for _ in range(load.connections)
    ]
    start = time.perf_counter()
    run.seconds.clear()
    await _pace(run, load, start)
    elapsed = time.perf_counter() - start
    answered = len(run.seconds)
    run.ended = True
    for connection in connections:
        connection.close()
    taken = sorted(seconds * 1000 for seconds in run.seconds)
    return Measured(
        per_second=answered / elapsed,
        p50=taken[len(taken) // 2],
        p99=taken[len(taken) * 99 // 100],
        wrong=run.wrong,
    )


async def _first_answer(load: Load) -> None:
    """Wait until the server answers at all: it may be starting."""
    reader, writer = await asyncio.open_connection("127.0.0.1", load.port)
    writer.write(load.requests[0].encode("latin-1"))
    await reader.readuntil(_END)
    writer.close()


async def _pace(run: _Run, load: Load, start: float) -> None:
    """Make requests due at even distances until the time is over."""
    if load.rate is None:
        await asyncio.sleep(load.seconds)
        return
    made = 0
    while (now := time.perf_counter() - start) < load.seconds:
        while made < now * load.rate:
            run.due.append(start + made / load.rate)
            made += 1
        while run.due and run.idle:
            run.idle.pop().ask()
        await asyncio.sleep(_TICK)


if __name__ == "__main__":
    pin(CLIENT_CORE)
    print(json.dumps(asdict(uvloop.run(_load(Load(**json.load(sys.stdin)))))))
