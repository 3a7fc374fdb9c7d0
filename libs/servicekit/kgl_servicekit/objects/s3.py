"""Objects in a bucket of an S3 server: for several machines.

An object is created on the condition that its key is free (`If-None-Match: *`), so objects never change, and S3
shows an object whole or not at all. What is known before the first byte leaves - all but streams of more than a
part - has its SHA-256 with it; that of the others is computed from their content when it is asked for.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from loguru import logger

from kgl_servicekit.errors import Unavailable
from kgl_servicekit.objects.port import ObjectEntry, ObjectExists, ObjectInfo, ObjectMissing, checked
from kgl_servicekit.objects.s3_connection import Refused, S3Connection, Unreachable
from kgl_servicekit.objects.s3_multipart import abort_leftovers, parts_of, uploading
from kgl_servicekit.objects.s3_settings import check_settings

_SHA256 = "x-amz-meta-kgl-sha256"
NEW = {"if-none-match": "*"}
"""The condition that a key is free."""
_OCTETS = {"content-type": "application/octet-stream"}
_PING_SECONDS = 1.0
_SWEEP_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class _Head:
    """An object as S3 describes it; without the hash if it was stored in parts, or by others."""

    size: int
    sha256: str | None


class S3Store:
    """The objects of a bucket, all below `prefix` if there is one; with `read_only` it refuses to write."""

    def __init__(self, connection: S3Connection, *, prefix: str = "", read_only: bool = False) -> None:
        self._connection = connection
        self._prefix = f"{checked(prefix)}/" if prefix else ""
        self._read_only = read_only
        self._users = 0
        self._next_sweep = 0.0

    async def start(self) -> None:
        """See that the bucket can be used, and abort what crashed writers left behind.

        May be called once by each of the service's roles in a process. Raises NotConfigured for what an operator
        has set wrong, Unavailable when the server is away.
        """
        try:
            await check_settings(self._connection, self._prefix)
        except BaseException:
            if self._users == 0:
                await self._connection.close()
            raise
        self._users += 1
        if not self._read_only:
            await self._sweep()

    async def stop(self) -> None:
        self._users -= 1
        if self._users == 0:
            await self._connection.close()

    async def put(self, key: str, content: bytes | AsyncIterator[bytes]) -> ObjectInfo:
        name = self._name(key)
        if self._read_only:
            raise PermissionError("this store is read-only here")
        if isinstance(content, bytes):
            return await self._put_whole(name, content)
        parts = parts_of(content)
        begun = [await anext(parts, b""), await anext(parts, b"")]
        if not begun[1]:
            return await self._put_whole(name, begun[0])
        return await self._put_parts(name, _chained(begun, parts))

    async def _put_whole(self, name: str, content: bytes) -> ObjectInfo:
        sha256 = (await asyncio.to_thread(hashlib.sha256, content)).hexdigest()
        info = ObjectInfo(len(content), sha256)
        headers = {**NEW, **_OCTETS, _SHA256: sha256}
        try:
            await self._connection.request("PUT", name, headers=headers, content=content, content_sha256=sha256)
        except (Refused, Unreachable) as failed:
            await self._check_taken(name, info, failed)
        return info

    async def _put_parts(self, name: str, parts: AsyncIterator[bytes]) -> ObjectInfo:
        if time.monotonic() > self._next_sweep:
            await self._sweep()
        async with uploading(self._connection, name, _OCTETS) as upload:
            info = await upload.send(parts)
            try:
                await upload.complete(NEW)
            except (Refused, Unreachable) as failed:
                await self._check_taken(name, info, failed)
        return info

    async def _check_taken(self, name: str, info: ObjectInfo, failed: Refused | Unreachable) -> None:
        """A key that is taken by the same content is as good as stored.

        Looked at as well when the connection was lost: a server that refuses before it has read a large content
        ends it, and its answer may be lost with it.
        """
        if isinstance(failed, Refused) and not failed.is_taken:
            raise failed
        there = await self._head(name)
        if there is None:
            if isinstance(failed, Unreachable):
                raise failed
            raise Unavailable("Another writes or deletes this object at the moment.", retry_after=1) from failed
        if there.size != info.size or await self._sha256(name, there) != info.sha256:
            raise ObjectExists(name) from None

    async def get(self, key: str) -> bytes:
        try:
            return (await self._connection.request("GET", self._name(key))).content
        except Refused as refused:
            raise _missing(key, refused) from refused

    async def stream(self, key: str, offset: int = 0) -> AsyncIterator[bytes]:
        headers = {"range": f"bytes={offset}-"} if offset else {}
        try:
            async for block in self._connection.blocks(self._name(key), headers):
                yield block
        except Refused as refused:
            if refused.name != "InvalidRange":  # the object ends before the offset
                raise _missing(key, refused) from refused

    async def stat(self, key: str) -> ObjectInfo | None:
        name = self._name(key)
        there = await self._head(name)
        return None if there is None else ObjectInfo(there.size, await self._sha256(name, there))

    async def _head(self, name: str) -> _Head | None:
        try:
            answer = await self._connection.request("HEAD", name)
        except Refused as refused:
            if refused.http_status == 404:
                return None
            raise
        return _Head(int(answer.headers["content-length"]), answer.headers.get(_SHA256))

    async def _sha256(self, name: str, there: _Head) -> str:
        """As it was stored with the object, or computed from its content."""
        if there.sha256 is not None:
            return there.sha256
        digest = hashlib.sha256()
        async for block in self._connection.blocks(name, {}):
            digest.update(block)
        return digest.hexdigest()

    async def delete(self, key: str) -> None:
        name = self._name(key)
        if self._read_only:
            raise PermissionError("this store is read-only here")
        await self._connection.request("DELETE", name)

    async def listed(self, prefix: str) -> AsyncIterator[ObjectEntry]:
        query = {"list-type": "2", "prefix": self._prefix + prefix}
        while True:
            page = (await self._connection.request("GET", query=query)).xml
            for found in page.iterfind("{*}Contents"):
                modified_at = datetime.fromisoformat(found.findtext("{*}LastModified", "")).timestamp()
                key = found.findtext("{*}Key", "").removeprefix(self._prefix)
                yield ObjectEntry(key, int(found.findtext("{*}Size", "")), modified_at)
            token = page.findtext("{*}NextContinuationToken")
            if token is None:
                return
            query["continuation-token"] = token

    async def ping(self) -> None:
        try:
            async with asyncio.timeout(_PING_SECONDS):
                await self._connection.request("HEAD", seconds=_PING_SECONDS)
        except TimeoutError as late:
            raise Unreachable(late) from late

    def link(self, key: str, seconds: int, *, name: str) -> str | None:
        asked = {
            "response-content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
            # whatever it is: nothing that a page of this origin could be made to run
            "response-content-type": "application/octet-stream",
            "response-cache-control": "private, no-store",
        }
        return self._connection.link(self._name(key), seconds, asked)

    def _name(self, key: str) -> str:
        return self._prefix + checked(key)

    async def _sweep(self) -> None:
        """Abort uploads in parts that were left behind; not being able to is no reason to do nothing else."""
        self._next_sweep = time.monotonic() + _SWEEP_SECONDS
        try:
            await abort_leftovers(self._connection, self._prefix)
        except Unavailable as out:
            logger.bind(error=str(out)).warning("objects.leftovers_kept")


def _missing(key: str, refused: Refused) -> Exception:
    return ObjectMissing(key) if refused.name == "NoSuchKey" else refused


async def _chained(begun: list[bytes], others: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """All parts; what was begun with is let go of, as it is large."""
    while begun:
        yield begun.pop(0)
    async for part in others:
        yield part
