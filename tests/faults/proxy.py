"""A TCP proxy that makes a network bad, and good again, while it runs.

It stands between a service and a server on loopback. What is switched on holds for connections that are open, too.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

_PART = 64 * 1024
_TICK = 0.05


@dataclass(frozen=True, slots=True)
class _Weather:
    """How it is: seconds before each part, bytes a second (0: as fast as it goes), whether nothing comes through."""

    delay: float = 0.0
    jitter: float = 0.0
    rate: float = 0.0
    silent: bool = False
    refuses: bool = False


class Proxy:
    """Listens on a port of 127.0.0.1, and passes on what comes to `target`."""

    def __init__(self, target: tuple[str, int], dice: random.Random | None = None) -> None:
        self._target = target
        self._dice = dice or random.Random()
        self._weather = _Weather()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.accepted = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=_PART)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._drop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def heal(self) -> None:
        """As if it were not there; what came while nothing passed is passed on now."""
        self._set(_Weather())

    def cut(self) -> None:
        """Reset all connections, and every new one."""
        self._set(_Weather(refuses=True))
        self._drop()

    def half_open(self) -> None:
        """Connections stay, new ones are accepted; nothing comes through in either direction."""
        self._set(_Weather(silent=True))

    def delay(self, seconds: float, jitter: float = 0.0) -> None:
        """Each part comes later by `seconds`, give or take `jitter`."""
        self._set(_Weather(delay=seconds, jitter=jitter))

    def drip(self, bytes_per_second: float) -> None:
        """So many bytes come through, in each direction of each connection."""
        self._set(_Weather(rate=bytes_per_second))

    def _set(self, weather: _Weather) -> None:
        self._weather = weather
        self._changed.set()
        self._changed = asyncio.Event()

    def _drop(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.accepted += 1
        with contextlib.suppress(OSError, asyncio.CancelledError):  # of `stop`; asyncio's streams cannot take it
            await self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._weather.refuses:
            writer.transport.abort()
            return
        self._writers.add(writer)
        outward: asyncio.StreamWriter | None = None
        try:
            back, outward = await asyncio.open_connection(*self._target, limit=_PART)
            self._writers.add(outward)
            ways = [
                asyncio.ensure_future(self._pass(reader, outward)),
                asyncio.ensure_future(self._pass(back, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            for each in (writer, outward):
                if each is not None:
                    self._writers.discard(each)
                    each.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(_PART):
            await self._through(part, writer)
        if writer.can_write_eof():
            writer.write_eof()

    async def _through(self, part: bytes, writer: asyncio.StreamWriter) -> None:
        while self._weather.silent:
            await self._changed.wait()
        weather = self._weather
        if weather.delay or weather.jitter:
            await asyncio.sleep(max(0.0, weather.delay + self._dice.uniform(-weather.jitter, weather.jitter)))
        while part and self._weather.rate:
            most = max(1, int(self._weather.rate * _TICK))
            writer.write(part[:most])
            await writer.drain()
            part = part[most:]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(_TICK, most / self._weather.rate)):
                    await self._changed.wait()
        if part:
            writer.write(part)
            await writer.drain()


@asynccontextmanager
async def proxied(host: str, port: int) -> AsyncIterator[Proxy]:
    """A proxy before a server, while this is open."""
    proxy = Proxy((host, port))
    await proxy.start()
    try:
        yield proxy
    finally:
        proxy.heal()
        await proxy.stop()
