"""What services ask of an object store: whole, immutable objects under keys.

ObjectMissing   nothing lies under the key
ObjectExists    something else lies there already
Unavailable     the store cannot be used at the moment; jobs wait for it
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

_KEY = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")
_KEY_LIMIT = 512


class ObjectMissing(LookupError):
    """There is no object under this key."""


class ObjectExists(Exception):
    """Another object lies under this key; objects never change."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Size in bytes, and SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """An object in a list: size in bytes, and when it was stored, in seconds of the Unix clock."""

    key: str
    size: int
    modified_at: float


class ObjectStore(Protocol):
    """Keys are words of letters, digits, `.`, `_`, `-`, joined by `/`, 512 characters at most."""

    async def start(self) -> None:
        """See that the store can be used; raises NotConfigured, Unavailable. Once for each role of a process."""
        ...

    async def stop(self) -> None:
        """Let go of what `start` has opened."""
        ...

    async def put(self, key: str, content: bytes | AsyncIterator[bytes]) -> ObjectInfo:
        """Store an object, whole or not at all. The same content again is a no-op; raises ObjectExists."""
        ...

    async def get(self, key: str) -> bytes:
        """The object; raises ObjectMissing."""
        ...

    def stream(self, key: str, offset: int = 0) -> AsyncIterator[bytes]:
        """The object from byte `offset`, in blocks; raises ObjectMissing."""
        ...

    async def stat(self, key: str) -> ObjectInfo | None: ...

    async def delete(self, key: str) -> None:
        """Remove the object, if it is there."""
        ...

    def listed(self, prefix: str) -> AsyncIterator[ObjectEntry]:
        """The objects whose keys begin with `prefix`, sorted by key."""
        ...

    async def ping(self) -> None:
        """Raise Unavailable if the store cannot be used, within a second."""
        ...

    def link(self, key: str, seconds: int, *, name: str) -> str | None:
        """A URL that lets whoever has it download the object for so long, as a file of this name.

        A browser saves it and never shows or runs it. None where the store has no server of its own.
        """
        ...


def is_key(text: str) -> bool:
    """Whether an object may lie under this."""
    return len(text) <= _KEY_LIMIT and _KEY.fullmatch(text) is not None


def checked(key: str) -> str:
    """The key, if it is one; raises ValueError."""
    if not is_key(key):
        raise ValueError(f"{key[:80]!r} is no object key")
    return key
