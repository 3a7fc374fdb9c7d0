"""An object store in memory, for tests of what stands on the port."""

import hashlib
import time
from collections.abc import AsyncIterator

from kgl_servicekit.errors import Unavailable
from kgl_servicekit.objects.port import ObjectEntry, ObjectExists, ObjectInfo, ObjectMissing, checked


class MemoryStore:
    """`out` makes every call fail, as an outage would."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.modified_at: dict[str, float] = {}
        self.out = False

    async def start(self) -> None:
        self._check()

    async def stop(self) -> None:
        """Nothing is open."""

    async def put(self, key: str, content: bytes | AsyncIterator[bytes]) -> ObjectInfo:
        self._check()
        whole = content if isinstance(content, bytes) else b"".join([block async for block in content])
        if self.objects.setdefault(checked(key), whole) != whole:
            raise ObjectExists(key)
        self.modified_at.setdefault(key, time.time())
        return _info(whole)

    async def get(self, key: str) -> bytes:
        self._check()
        try:
            return self.objects[checked(key)]
        except KeyError:
            raise ObjectMissing(key) from None

    async def stream(self, key: str, offset: int = 0) -> AsyncIterator[bytes]:
        if rest := (await self.get(key))[offset:]:
            yield rest

    async def stat(self, key: str) -> ObjectInfo | None:
        self._check()
        found = self.objects.get(checked(key))
        return None if found is None else _info(found)

    async def delete(self, key: str) -> None:
        self._check()
        self.objects.pop(checked(key), None)
        self.modified_at.pop(key, None)

    async def listed(self, prefix: str) -> AsyncIterator[ObjectEntry]:
        self._check()
        for key, content in sorted(self.objects.items()):
            if key.startswith(prefix):
                yield ObjectEntry(key, len(content), self.modified_at[key])

    async def ping(self) -> None:
        self._check()

    def link(self, key: str, seconds: int, *, name: str) -> str | None:
        return None

    def _check(self) -> None:
        if self.out:
            raise Unavailable("The store is out.", retry_after=1)


def _info(content: bytes) -> ObjectInfo:
    return ObjectInfo(len(content), hashlib.sha256(content).hexdigest())
