"""What every object store promises, shown on each of them."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from kgl_servicekit.errors import Unavailable
from kgl_servicekit.objects.directory import DirectoryStore
from kgl_servicekit.objects.memory import MemoryStore
from kgl_servicekit.objects.port import ObjectExists, ObjectInfo, ObjectMissing, ObjectStore
from kgl_servicekit.objects.s3 import S3Store
from kgl_servicekit.testing.s3 import S3ForTests, bucket_on
from kgl_servicekit.testing.servers import real_servers

SERVER = real_servers().s3
PART = 8 * 1024 * 1024


@pytest.fixture(params=["memory", "directory", "s3", *(["s3 server"] if SERVER else [])])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    async with AsyncExitStack() as stack:
        made: ObjectStore = MemoryStore()
        if request.param == "directory":
            made = DirectoryStore(tmp_path / "objects")
        elif request.param == "s3":
            made = S3ForTests().store(prefix="some/folder")
        elif SERVER and request.param == "s3 server":
            made = S3Store(await stack.enter_async_context(bucket_on(SERVER)), prefix="some/folder")
        await made.start()
        stack.push_async_callback(made.stop)
        yield made


async def blocks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_an_object_comes_back_whole_from_bytes_and_from_a_stream(store: ObjectStore) -> None:
    info = await store.put("a/b/c.txt", b"hello")
    assert (info.size, info.sha256[:8]) == (5, "2cf24dba")
    assert await store.put("a/d", blocks(b"he", b"llo")) == info
    assert await store.get("a/b/c.txt") == await store.get("a/d") == b"hello"
    assert b"".join([block async for block in store.stream("a/d", 2)]) == b"llo"
    assert await store.stat("a/d") == info


async def test_the_same_content_again_is_a_no_op_and_other_content_is_refused(store: ObjectStore) -> None:
    await store.put("k", b"one")
    await store.put("k", b"one")
    with pytest.raises(ObjectExists):
        await store.put("k", b"two")
    assert await store.get("k") == b"one"


async def test_what_is_larger_than_a_block_is_stored_whole_and_once(store: ObjectStore) -> None:
    one, other = os.urandom(2 * PART + 5), os.urandom(2 * PART + 5)
    info = await store.put("k", blocks(one[:PART], one[PART:]))
    assert info == ObjectInfo(len(one), hashlib.sha256(one).hexdigest())
    assert await store.stat("k") == info
    assert await store.get("k") == one
    assert b"".join([block async for block in store.stream("k", PART - 3)]) == one[PART - 3 :]
    assert await store.put("k", blocks(one)) == await store.put("k", one) == info
    for another in (other, other[:-1]):
        with pytest.raises(ObjectExists):
            await store.put("k", blocks(another))
        with pytest.raises(ObjectExists):
            await store.put("k", another)
    assert await store.get("k") == one


async def test_an_object_may_be_empty_and_nothing_lies_behind_its_end(store: ObjectStore) -> None:
    assert await store.put("k", b"") == await store.put("l", blocks()) == await store.stat("k")
    assert await store.get("k") == await store.get("l") == b""
    await store.put("m", b"abc")
    for key, offset in (("k", 0), ("k", 1), ("m", 3), ("m", 9)):
        assert [block async for block in store.stream(key, offset)] == []


async def test_concurrent_writers_of_one_key_leave_one_whole_object(store: ObjectStore) -> None:
    contents = [bytes([n]) * 100_000 for n in range(8)]
    results = await asyncio.gather(*(store.put("k", blocks(c)) for c in contents), return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert await store.get("k") in contents


async def test_what_is_missing_is_said_and_deleting_it_is_a_no_op(store: ObjectStore) -> None:
    with pytest.raises(ObjectMissing):
        await store.get("none")
    with pytest.raises(ObjectMissing):
        _ = [block async for block in store.stream("none")]
    assert await store.stat("none") is None
    await store.delete("none")


async def test_deleted_objects_are_gone_and_lists_are_sorted(store: ObjectStore) -> None:
    begun = time.time()
    for key in ("b/2", "b/1", "a", "b/c/3"):
        await store.put(key, b"x")
    await store.delete("b/2")
    for prefix, keys in {"b/": ["b/1", "b/c/3"], "": ["a", "b/1", "b/c/3"], "b/c": ["b/c/3"], "none/": []}.items():
        assert [entry.key async for entry in store.listed(prefix)] == keys
    async for entry in store.listed(""):
        assert entry.size == 1
        assert begun - 1 < entry.modified_at < time.time() + 1


@pytest.mark.parametrize("key", ["", "/a", "a/", "../a", "a/../b", "a/./b", "..", "a//b", "a b", "a\0b", "x" * 600])
async def test_a_key_that_is_none_is_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError, match="no object key"):
        await store.put(key, b"x")
    with pytest.raises(ValueError, match="no object key"):
        await store.get(key)


async def test_a_failing_source_leaves_nothing_behind(store: ObjectStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise RuntimeError("source")

    async def broken_late() -> AsyncIterator[bytes]:
        yield bytes(3 * PART)
        raise RuntimeError("source")

    for source in (broken, broken_late):
        with pytest.raises(RuntimeError):
            await store.put("k", source())
        assert [entry async for entry in store.listed("")] == []
    await store.put("k", b"whole")


async def test_a_store_that_is_there_answers(store: ObjectStore) -> None:
    await store.ping()


async def test_a_read_only_store_reads_and_does_not_write(tmp_path: Path) -> None:
    writer = DirectoryStore(tmp_path)
    await writer.start()
    await writer.put("k", b"x")
    reader = DirectoryStore(tmp_path, read_only=True)
    await reader.start()
    assert await reader.get("k") == b"x"
    with pytest.raises(PermissionError):
        await reader.put("l", b"x")
    with pytest.raises(PermissionError):
        await reader.delete("k")


async def test_old_leftovers_of_crashed_writers_are_removed_at_the_start(tmp_path: Path) -> None:
    old, young = tmp_path / ".partial-old", tmp_path / ".partial-young"
    for leftover in (old, young):
        leftover.write_bytes(b"half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    (tmp_path / ".partial-done").symlink_to("gone meanwhile")
    await DirectoryStore(tmp_path).start()
    assert not old.exists()
    assert young.exists()


async def test_a_store_that_cannot_be_used_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a file where a folder should be")
    store = DirectoryStore(tmp_path)
    with pytest.raises(Unavailable):
        await store.put("a/b", b"x")
