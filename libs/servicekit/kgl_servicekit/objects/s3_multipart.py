"""Objects that come in parts, so that no process holds more than a few of them.

An upload in parts is no object until it is completed, and that is refused if the key is taken meanwhile.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from xml.etree import ElementTree

from kgl_servicekit.errors import Unavailable
from kgl_servicekit.objects.port import ObjectInfo
from kgl_servicekit.objects.s3_connection import S3Connection

PART = 8 * 1024 * 1024
"""Bytes of every part but the last. S3 takes parts from 5 MiB, and 10,000 of them."""


async def parts_of(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The content cut anew; nothing of an empty one."""
    rest = bytearray()
    async for block in content:
        rest += block
        while len(rest) >= PART:
            with memoryview(rest) as view:
                part = bytes(view[:PART])
            del rest[:PART]
            yield part
    if rest:
        yield bytes(rest)


class Upload:
    """An upload in parts that was begun; `complete` makes an object of it."""

    def __init__(self, connection: S3Connection, key: str, id: str) -> None:
        self._connection = connection
        self._key = key
        self._query = {"uploadId": id}
        self._manifest = ElementTree.Element("CompleteMultipartUpload")
        self.completed = False

    async def send(self, parts: AsyncIterator[bytes]) -> ObjectInfo:
        """Send the parts one after the other; what they are together."""
        whole, size = hashlib.sha256(), 0
        async for part in parts:
            size += len(part)
            sha256 = await asyncio.to_thread(_digest, part, whole)
            number = str(len(self._manifest) + 1)
            query = {"partNumber": number, **self._query}
            sent = await self._connection.request("PUT", self._key, query=query, content=part, content_sha256=sha256)
            element = ElementTree.SubElement(self._manifest, "Part")
            ElementTree.SubElement(element, "PartNumber").text = number
            ElementTree.SubElement(element, "ETag").text = sent.headers["etag"]
        return ObjectInfo(size, whole.hexdigest())

    async def complete(self, headers: Mapping[str, str]) -> None:
        """Make the object of the parts, under the conditions of the headers; raises Refused."""
        content = ElementTree.tostring(self._manifest)
        await self._connection.request(
            "POST",
            self._key,
            query=self._query,
            headers=headers,
            content=content,
            content_sha256=hashlib.sha256(content).hexdigest(),
        )
        self.completed = True

    async def abort(self) -> None:
        """Have the parts thrown away; if that fails they are a leftover."""
        with contextlib.suppress(Unavailable):
            await self._connection.request("DELETE", self._key, query=self._query)


@asynccontextmanager
async def uploading(connection: S3Connection, key: str, headers: Mapping[str, str]) -> AsyncIterator[Upload]:
    """An upload that is aborted in the end, unless it was completed."""
    answer = await connection.request("POST", key, query={"uploads": ""}, headers=headers)
    upload = Upload(connection, key, answer.xml.findtext("{*}UploadId") or "")
    try:
        yield upload
    finally:
        if not upload.completed:
            await upload.abort()


def _digest(part: bytes, whole: "hashlib._Hash") -> str:
    whole.update(part)
    return hashlib.sha256(part).hexdigest()


async def abort_leftovers(connection: S3Connection, prefix: str, older_than: float = 3600.0) -> None:
    """Abort what crashed writers have begun below a prefix more than so many seconds ago."""
    async for key, upload, begun_at in _uploads(connection):
        # asked for without a prefix: MinIO takes one for a whole key
        if key.startswith(prefix) and time.time() - begun_at > older_than:
            with contextlib.suppress(Unavailable):  # done meanwhile, or of another service, who does it
                await connection.request("DELETE", key, query={"uploadId": upload})


async def _uploads(connection: S3Connection) -> AsyncIterator[tuple[str, str, float]]:
    """Key, id and time of all uploads that are not completed."""
    query = {"uploads": ""}
    while True:
        page = (await connection.request("GET", query=query)).xml
        for upload in page.iterfind("{*}Upload"):
            begun_at = upload.findtext("{*}Initiated") or datetime.now(UTC).isoformat()
            yield (
                upload.findtext("{*}Key") or "",
                upload.findtext("{*}UploadId") or "",
                datetime.fromisoformat(begun_at).timestamp(),
            )
        if page.findtext("{*}IsTruncated") != "true":
            return
        query = {
            "uploads": "",
            "key-marker": page.findtext("{*}NextKeyMarker") or "",
            "upload-id-marker": page.findtext("{*}NextUploadIdMarker") or "",
        }
