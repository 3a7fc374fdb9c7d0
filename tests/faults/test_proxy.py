"""The proxy passes on what comes, and fails as it is told while connections are open."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.proxy import Proxy, proxied

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def echo() -> AsyncIterator[Proxy]:
    """A proxy before a server that says what it is told."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while part := await reader.read(1 << 16):
                writer.write(part)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with proxied("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()


async def connected(proxy: Proxy) -> Streams:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def said(streams: Streams, words: bytes, within: float = 5.0) -> bytes:
    reader, writer = streams
    writer.write(words)
    async with asyncio.timeout(within):
        return await reader.readexactly(len(words))


async def test_what_is_whole_passes() -> None:
    async with echo() as proxy:
        streams = await connected(proxy)
        large = b"0123456789" * 100_000
        assert await said(streams, large) == large
        streams[1].write_eof()  # one side may end before the other
        assert await streams[0].read() == b""


async def test_a_cut_resets_what_is_open_and_what_comes_until_it_is_healed() -> None:
    async with echo() as proxy:
        streams = await connected(proxy)
        assert await said(streams, b"before") == b"before"
        proxy.cut()
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await said(streams, b"during")
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await said(await connected(proxy), b"during")
        proxy.heal()
        assert await said(await connected(proxy), b"after") == b"after"


async def test_half_open_is_silent_and_gives_all_when_it_is_healed() -> None:
    async with echo() as proxy:
        streams = await connected(proxy)
        assert await said(streams, b"before") == b"before"
        proxy.half_open()
        with pytest.raises(TimeoutError):
            await said(streams, b"during", within=0.3)
        proxy.heal()
        async with asyncio.timeout(5):
            assert await streams[0].readexactly(6) == b"during"


async def test_a_delay_holds_in_both_directions() -> None:
    async with echo() as proxy:
        streams = await connected(proxy)
        proxy.delay(0.1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await said(streams, b"x")
        assert loop.time() - began >= 0.2


async def test_a_drip_takes_its_time_until_it_is_healed() -> None:
    async with echo() as proxy:
        streams = await connected(proxy)
        proxy.drip(1000)
        with pytest.raises(TimeoutError):
            await said(streams, b"x" * 10_000, within=0.3)
        proxy.heal()
        async with asyncio.timeout(5):
            assert await streams[0].read(1 << 16)
