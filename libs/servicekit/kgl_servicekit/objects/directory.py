"""Objects as files below one folder: for one machine.

An object is written to a temporary file, made durable, and linked to its name, which fails if the name is
taken; so a reader sees it whole or not at all, whatever crashes.
"""

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

from kgl_servicekit.errors import Unavailable
from kgl_servicekit.objects.port import ObjectEntry, ObjectExists, ObjectInfo, ObjectMissing, checked

_BLOCK = 256 * 1024
_LEFTOVER = ".partial-"
_LEFTOVER_SECONDS = 3600.0


class DirectoryStore:
    """The object store below `root`; with `read_only` it refuses to write."""

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        self._root = root
        self._read_only = read_only

    async def start(self) -> None:
        """Make the folder, and remove what crashed writers left behind."""
        with _unavailable():
            await asyncio.to_thread(self._prepare)

    async def stop(self) -> None:
        """Nothing is open."""

    async def put(self, key: str, content: bytes | AsyncIterator[bytes]) -> ObjectInfo:
        if self._read_only:
            raise PermissionError("this store is read-only here")
        path = self._path(key)
        partial = path.parent / f"{_LEFTOVER}{uuid4()}"
        with _unavailable():
            if isinstance(content, bytes):
                return await asyncio.to_thread(self._put_whole, content, partial, path)
            return await self._put_blocks(content, partial, path)

    async def _put_blocks(self, content: AsyncIterator[bytes], partial: Path, path: Path) -> ObjectInfo:
        digest, size = hashlib.sha256(), 0
        file = await asyncio.to_thread(_open_new, partial)
        try:
            async for block in content:
                digest.update(block)
                size += len(block)
                await asyncio.to_thread(file.write, block)
            info = ObjectInfo(size, digest.hexdigest())
            await asyncio.to_thread(self._link, file, partial, path, info)
        finally:
            _discard(file, partial)
        return info

    def _put_whole(self, content: bytes, partial: Path, path: Path) -> ObjectInfo:
        info = ObjectInfo(len(content), hashlib.sha256(content).hexdigest())
        file = _open_new(partial)
        try:
            file.write(content)
            self._link(file, partial, path, info)
        finally:
            _discard(file, partial)
        return info

    async def get(self, key: str) -> bytes:
        path = self._path(key)
        with _unavailable(), _missing(key):
            return await asyncio.to_thread(path.read_bytes)

    async def stream(self, key: str, offset: int = 0) -> AsyncIterator[bytes]:
        path = self._path(key)
        with _unavailable(), _missing(key):
            file = await asyncio.to_thread(path.open, "rb")
            try:
                file.seek(offset)
                while block := await asyncio.to_thread(file.read, _BLOCK):
                    yield block
            finally:
                file.close()

    async def stat(self, key: str) -> ObjectInfo | None:
        path = self._path(key)
        with _unavailable():
            try:
                return await asyncio.to_thread(_digest, path)
            except FileNotFoundError:
                return None

    async def delete(self, key: str) -> None:
        if self._read_only:
            raise PermissionError("this store is read-only here")
        path = self._path(key)
        with _unavailable():
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def listed(self, prefix: str) -> AsyncIterator[ObjectEntry]:
        with _unavailable():
            entries = await asyncio.to_thread(self._entries, prefix)
        for entry in entries:
            yield entry

    async def ping(self) -> None:
        with _unavailable():
            await asyncio.to_thread(os.stat, self._root)

    def link(self, key: str, seconds: int, *, name: str) -> str | None:
        return None

    def _path(self, key: str) -> Path:
        return self._root / checked(key)

    def _prepare(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        if self._read_only:
            return
        for leftover in self._root.rglob(f"{_LEFTOVER}*"):
            with contextlib.suppress(FileNotFoundError):  # its writer is at work, and has finished
                if time.time() - leftover.stat().st_mtime > _LEFTOVER_SECONDS:
                    leftover.unlink()

    def _entries(self, prefix: str) -> list[ObjectEntry]:
        found = []
        for folder, _, names in os.walk(self._root / prefix.rpartition("/")[0]):
            for name in names:
                path = Path(folder, name)
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix) and not name.startswith(_LEFTOVER):
                    with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                        status = path.stat()
                        found.append(ObjectEntry(key, status.st_size, status.st_mtime))
        return sorted(found, key=lambda entry: entry.key)

    def _link(self, file: IO[bytes], partial: Path, path: Path, info: ObjectInfo) -> None:
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(partial, path)
        except FileExistsError:
            if _digest(path) != info:
                raise ObjectExists(path.name) from None
            return
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _open_new(partial: Path) -> IO[bytes]:
    partial.parent.mkdir(parents=True, exist_ok=True)
    return partial.open("xb")


def _discard(file: IO[bytes], partial: Path) -> None:
    file.close()
    partial.unlink(missing_ok=True)


def _digest(path: Path) -> ObjectInfo:
    with path.open("rb") as file:
        return ObjectInfo(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


@contextmanager
def _missing(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ObjectMissing(key) from None


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unavailable(f"The object store cannot be used: {error.strerror}.", retry_after=5) from error
