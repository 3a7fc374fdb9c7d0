"""An issuer of tokens whose keys can be changed, and that fails as it is told; it counts who asks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal
from uuid import UUID

import orjson

from kgl_servicekit.identity.testing import TokenSigner

Mode = Literal["ok", "out", "500", "garbage", "slow"]
_SLOW = 10.0


class Issuer:
    """`asked` counts the requests for its keys."""

    def __init__(self) -> None:
        self.url = ""
        self.mode: Mode = "ok"
        self.asked = 0
        self.signer = TokenSigner(kid="key-1")

    def token(self, user: UUID) -> str:
        """A token of the present key."""
        return self.signer.token(user)

    def rotate(self) -> None:
        """A new key; the old one is told no more."""
        self.signer = TokenSigner(issuer=self.signer.issuer, kid=f"key-{id(self.signer)}")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request on one connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            if self.mode == "slow":
                await asyncio.sleep(_SLOW)
            if self.mode != "out":
                status = "500 Internal Server Error" if self.mode == "500" else "200 OK"
                body = b"<html>not here</html>" if self.mode == "garbage" else orjson.dumps(self.signer.jwks())
                head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n"
                writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def issuer() -> AsyncIterator[Issuer]:
    """An issuer, while this is open."""
    made = Issuer()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
