"""A server outside, as small as can be, for a class of faults to make it fail."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TypeVar


class SmallServer:
    """`url` is where it answers, once it is open; see `serving`."""

    url = ""

    async def answer(self, body: bytes) -> tuple[int, bytes] | None:
        """Status and JSON for one request; None for an end of its connection without a word."""
        raise NotImplementedError

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: request after request."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                answer = await self.answer(await reader.readexactly(length))
                if answer is None:
                    break
                status, content = HTTPStatus(answer[0]), answer[1]
                told = f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: application/json\r\n"
                writer.write(f"{told}content-length: {len(content)}\r\n\r\n".encode() + content)
                await writer.drain()
        writer.close()


S = TypeVar("S", bound=SmallServer)


@asynccontextmanager
async def serving(server: S) -> AsyncIterator[S]:
    """The server, on a free port of this machine."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
