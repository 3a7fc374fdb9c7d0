"""Requests over a few connections that stay open: a client that costs little beside what it measures."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import orjson

_END = b"\r\n\r\n"


class ConnectionLost(Exception):
    """No answer came: the connection could not be made, was lost, or was silent for too long."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        return orjson.loads(self.content)


class Client:
    """For one server. `timeout` is that of a request, in seconds."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        fixed = {"Host": parts.netloc, "Accept": "application/json", **headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in fixed.items())
        self._timeout = timeout
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for _reader, writer in self._idle:
            writer.close()

    async def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Ask once; raises ConnectionLost, which says why."""
        content = b"" if body is None else orjson.dumps(body)
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        kind = "" if body is None else "Content-Type: application/json\r\n"
        head = f"{method} {path} HTTP/1.1\r\n{self._head}{more}{kind}Content-Length: {len(content)}\r\n\r\n"
        try:
            async with asyncio.timeout(self._timeout):
                return await self._exchange(head.encode("latin-1") + content)
        except TimeoutError as late:
            raise ConnectionLost("ReadTimeout") from late
        except (OSError, EOFError, ValueError) as lost:
            raise ConnectionLost(type(lost).__name__) from lost

    async def _exchange(self, sent: bytes) -> Answer:
        reader, writer = self._kept() or await asyncio.open_connection(self._host, self._port)
        whole = False
        try:
            writer.write(sent)
            lines = (await reader.readuntil(_END)).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
            content = await reader.readexactly(int(headers.get("content-length", "0")))
            whole = headers.get("connection", "").lower() != "close"
            return Answer(int(lines[0].split(" ", 2)[1]), headers, content)
        finally:
            if whole:
                self._idle.append((reader, writer))
            else:
                writer.transport.abort()

    def _kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
        return None
