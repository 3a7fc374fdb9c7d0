"""The wire between sandbox and child: frames of bytes, each after its length in four bytes (big-endian).

request   job (JSON), content
answer    BEGUN as soon as the job is there; summary (JSON), chunks (JSON Lines), text (UTF-8), of which the last
          two are empty when parsing failed
"""

import asyncio
import struct
from typing import BinaryIO

BEGUN = b"begun"
_LENGTH = struct.Struct(">I")


class FrameTooLong(Exception):
    """The other side announced more bytes than it may send."""


def framed(*payloads: bytes) -> bytes:
    """The payloads as one piece of the stream: one system call writes them."""
    return b"".join(part for payload in payloads for part in (_LENGTH.pack(len(payload)), payload))


def read_frame(source: BinaryIO) -> bytes | None:
    """The next frame, or None at the end of the stream."""
    length = source.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(length)
    payload = source.read(size)
    return payload if len(payload) == size else None


async def receive_frame(source: asyncio.StreamReader, *, at_most: int) -> bytes:
    """Raises: asyncio.IncompleteReadError when the other side is gone, FrameTooLong past `at_most` bytes."""
    (size,) = _LENGTH.unpack(await source.readexactly(_LENGTH.size))
    if size > at_most:
        raise FrameTooLong(size)
    return await source.readexactly(size)
