"""A server outside that the jobs of the small service call; it fails as it is told, and counts."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import orjson

Mode = Literal["ok", "500", "slow"]
_SLOW = 5.0


class Downstream:
    """`calls` counts what came, `refused` what was answered with an error, by name."""

    def __init__(self) -> None:
        self.mode: Mode = "ok"
        self.calls: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                name = orjson.loads(await reader.readexactly(length))["name"]
                self.calls[name] += 1
                status = "200 OK"
                if self.mode != "ok":
                    self.refused[name] += 1
                    status = "500 Internal Server Error"
                if self.mode == "slow":
                    await asyncio.sleep(_SLOW)
                writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
        writer.close()


@asynccontextmanager
async def downstream() -> AsyncIterator[Downstream]:
    """A server, while this is open."""
    stub = Downstream()
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    stub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield stub
    finally:
        server.close()
