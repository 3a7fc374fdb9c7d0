"""The object store on a real MinIO: what `kgl setup objects` makes, whom it refuses, links, and much at once."""

import asyncio
import hashlib
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from kgl_cli.setup.objects import ObjectsSetupSettings, setup
from kgl_cli.setup.objects_users import MinioUsers, user_of
from kgl_servicekit.objects.choose import objects_of, opened
from kgl_servicekit.objects.port import ObjectExists, ObjectInfo, ObjectMissing, ObjectStore
from kgl_servicekit.objects.s3 import S3Store
from kgl_servicekit.objects.s3_connection import Refused, S3Connection
from kgl_servicekit.objects.s3_multipart import PART, abort_leftovers, uploading
from kgl_servicekit.objects.s3_signature import Signer
from kgl_servicekit.settings import NotConfigured, ServiceSettings
from kgl_servicekit.testing.s3 import bucket_on
from kgl_servicekit.testing.servers import Login, real_servers

SERVICES = ("ingest", "graph", "content")
SECRETS = {service: f"{service}-{uuid4()}" for service in SERVICES}
KEYS = ("ingest/w/sha/1", "ingest/w/chunks/d/1/sha.jsonl", "graph/w/results/r/sha.json", "elsewhere/x")


@pytest.fixture(scope="module")
def server() -> Login:
    found = real_servers().s3
    assert found is not None, "KGL_TEST_SERVERS names no s3"
    return found


@pytest.fixture(scope="module")
async def bucket(server: Login) -> AsyncIterator[S3Connection]:
    async with bucket_on(server) as connection:
        yield connection


@pytest.fixture(scope="module")
def prefix() -> str:
    return f"test-{uuid4().hex[:6]}"


@pytest.fixture(scope="module")
async def prepared(server: Login, bucket: S3Connection, prefix: str) -> AsyncIterator[S3Connection]:
    """The bucket after `kgl setup objects`, whose users are removed in the end."""
    await setup(settings_for(bucket, prefix), lambda line: None)
    yield bucket
    admin = MinioUsers(bucket)._admin
    for service in SERVICES:
        await asyncio.to_thread(admin.user_remove, user_of(service, prefix))
        await asyncio.to_thread(admin.policy_remove, f"{bucket.bucket}-{user_of(service, prefix)}")


def settings_for(bucket: S3Connection, prefix: str, **changed: Any) -> ObjectsSetupSettings:
    values = {
        "s3_url": bucket.url,
        "s3_bucket": bucket.bucket,
        "s3_prefix": prefix,
        "s3_admin_user": bucket.access_key,
        "s3_admin_password": bucket.secret_key,
        **{f"s3_secret_key_{service}": secret for service, secret in SECRETS.items()},
    }
    return ObjectsSetupSettings(**{**values, **changed})


def store_of(service: str, bucket: S3Connection, prefix: str, **changed: Any) -> ObjectStore:
    """The store as a service has it from its settings."""
    values: dict[str, Any] = {
        "object_store": "s3",
        "s3_url": bucket.url,
        "s3_bucket": bucket.bucket,
        "s3_prefix": prefix,
        "s3_access_key": user_of(service, prefix),
        "s3_secret_key": SECRETS[service],
    }
    return objects_of(ServiceSettings(env="test", database_url="postgresql:///none", **{**values, **changed}))


@pytest.mark.parametrize(
    ("service", "reads", "writes", "deletes"),
    [
        ("ingest", {0, 1}, {0, 1}, {0, 1}),
        ("graph", {1, 2}, {2}, {2}),
        ("content", {2}, set(), set()),
    ],
)
async def test_each_service_may_do_what_it_needs_and_no_more(
    prepared: S3Connection, prefix: str, service: str, reads: set[int], writes: set[int], deletes: set[int]
) -> None:
    administrator = S3Store(prepared, prefix=prefix)
    async with opened(store := store_of(service, prepared, prefix)):
        for number, key in enumerate(KEYS):
            await administrator.put(key, b"x")
            assert await allowed(store.get(key)) == (number in reads), f"get {key}"
            new = f"{key}-{service}"
            assert await allowed(store.put(new, b"x")) == (number in writes), f"put {new}"
            assert (await administrator.stat(new) is not None) == (number in writes)
            assert await allowed(store.put(f"{new}-parts", zeros(2 * PART))) == (number in writes), f"parts {new}"
            assert await allowed(store.delete(key)) == (number in deletes), f"delete {key}"
            assert (await administrator.stat(key) is None) == (number in deletes)
            if number in reads:
                with pytest.raises(ObjectMissing):
                    await store.get(f"{key}-none")
        await store.ping()


async def allowed(call: Any) -> bool:
    try:
        await call
    except Refused as refused:
        assert refused.name == "AccessDenied"
        return False
    return True


async def zeros(size: int) -> AsyncIterator[bytes]:
    for _ in range(0, size, PART):
        yield bytes(PART)


async def test_a_service_is_refused_another_bucket(server: Login, prepared: S3Connection, prefix: str) -> None:
    async with bucket_on(server) as other:
        store = store_of("ingest", other, prefix)
        with pytest.raises(NotConfigured, match="KGL_S3_ACCESS_KEY has no rights on the bucket of KGL_S3_BUCKET"):
            await store.start()
        for call in (store.ping(), store.put("ingest/w/sha/1", b"x"), store.get("ingest/w/sha/1")):
            with pytest.raises(Refused):
                await call


async def test_the_setup_can_be_run_again_and_changes_secrets(prepared: S3Connection, prefix: str) -> None:
    lines: list[str] = []
    await setup(settings_for(prepared, prefix, s3_secret_key_graph="another secret"), lines.append)
    assert lines[0] == f"bucket {prepared.bucket} is there"
    assert lines[1:] == [f"user {prefix}-{service} has what {service} needs, and no more" for service in SERVICES]
    with pytest.raises(NotConfigured, match="KGL_S3_SECRET_KEY "):
        await store_of("graph", prepared, prefix).start()
    await setup(settings_for(prepared, prefix), lines.append)
    async with opened(store_of("graph", prepared, prefix)) as _:
        pass
    assert [entry.key async for entry in S3Store(prepared).listed("kgl-setup")] == []


async def test_the_setup_makes_the_bucket(server: Login, bucket: S3Connection) -> None:
    name, prefix, lines = f"kgl-test-{uuid4().hex[:12]}", f"test-{uuid4().hex[:6]}", list[str]()
    made = replace(bucket, bucket=name)
    try:
        await setup(settings_for(bucket, prefix, s3_bucket=name), lines.append)
        assert lines[0] == f"bucket {name} made"
    finally:
        await made.request("DELETE")
        await made.close()
        for service in SERVICES:
            await asyncio.to_thread(MinioUsers(bucket)._admin.user_remove, user_of(service, prefix))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"s3_admin_password": "wrong"}, "KGL_S3_ADMIN_PASSWORD .* is not that of KGL_S3_ADMIN_USER"),
        ({"s3_admin_user": "nobody"}, "KGL_S3_ADMIN_USER is refused"),
        ({"s3_url": "minio"}, "set KGL_S3_URL"),
    ],
)
async def test_the_setup_names_what_is_wrong(bucket: S3Connection, changed: dict[str, str], said: str) -> None:
    with pytest.raises(NotConfigured, match=said):
        await setup(settings_for(bucket, "test", **changed), lambda line: None)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"s3_secret_key": "wrong"}, "KGL_S3_SECRET_KEY .* is not that of KGL_S3_ACCESS_KEY"),
        ({"s3_access_key": "nobody"}, "KGL_S3_ACCESS_KEY is refused"),
        ({"s3_bucket": "kgl-test-missing"}, "KGL_S3_BUCKET"),
    ],
)
async def test_a_service_names_what_is_set_wrong(
    prepared: S3Connection, prefix: str, changed: dict[str, str], said: str
) -> None:
    with pytest.raises(NotConfigured, match=said):
        await store_of("ingest", prepared, prefix, **changed).start()


async def test_a_missing_bucket_is_named(prepared: S3Connection) -> None:
    missing = replace(prepared, bucket="kgl-test-missing")
    with pytest.raises(NotConfigured, match="KGL_S3_BUCKET is refused: there is no such bucket"):
        await S3Store(missing).start()
    await missing.close()


@pytest.fixture
def browser(prepared: S3Connection) -> Iterator[httpx.AsyncClient]:
    yield httpx.AsyncClient(base_url=prepared.url)


async def test_a_link_lets_a_browser_download_this_object_and_nothing_else(
    prepared: S3Connection, prefix: str, browser: httpx.AsyncClient
) -> None:
    store = store_of("ingest", prepared, prefix, public_url="http://kgl.test:8080")
    await store.put("ingest/w/link/1", b"<script>alert(1)</script>")
    await store.put("ingest/w/link/2", b"other")
    link = store.link("ingest/w/link/1", 60, name="ü.html") or ""
    assert link.startswith("http://kgl.test:8080/")
    path, host = link.removeprefix("http://kgl.test:8080"), {"host": "kgl.test:8080"}  # as the edge passes it

    answer = await browser.get(path, headers=host)
    assert (answer.status_code, answer.content) == (200, b"<script>alert(1)</script>")
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%BC.html"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["cache-control"] == "private, no-store"
    part = await browser.get(path, headers={**host, "range": "bytes=1-6"})
    assert (part.status_code, part.content) == (206, b"script")

    assert (await browser.get(path)).status_code == 403
    other_key, inline = path.replace("link/1", "link/2"), path.replace("attachment", "inline")
    for changed in (other_key, inline, path.replace("Expires=60", "Expires=600")):
        assert (await browser.get(changed, headers=host)).status_code == 403
    for method in ("PUT", "DELETE", "POST"):
        assert (await browser.request(method, path, headers=host)).status_code in (400, 403)
    assert await store.get("ingest/w/link/1") == b"<script>alert(1)</script>"
    await browser.aclose()


async def test_a_link_ends(prepared: S3Connection, prefix: str, browser: httpx.AsyncClient) -> None:
    await store_of("ingest", prepared, prefix).put("ingest/w/link/3", b"x")
    signer = Signer(user_of("ingest", prefix), SECRETS["ingest"], "us-east-1")
    path = f"/{prepared.bucket}/{prefix}/ingest/w/link/3"
    now = datetime.now(UTC)
    for begun, status in ((now - timedelta(seconds=30), 200), (now - timedelta(seconds=61), 403)):
        assert (await browser.get(signer.link("GET", prepared.url, path, {}, 60, begun))).status_code == status
    await browser.aclose()


async def test_much_is_stored_in_parts_with_little_memory(prepared: S3Connection, prefix: str) -> None:
    block, count = bytes(range(256)) * 1024, 400  # 100 MiB
    digest = hashlib.sha256()

    async def content() -> AsyncIterator[bytes]:
        for _ in range(count):
            digest.update(block)
            yield block

    async with opened(store := store_of("ingest", prepared, prefix)):
        tracemalloc.start()
        try:
            info = await store.put("ingest/w/large/1", content())
            size = 0
            async for part in store.stream("ingest/w/large/1"):
                size += len(part)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert info == ObjectInfo(len(block) * count, digest.hexdigest())
        assert size == info.size
        assert peak < 4 * PART
        assert await store.stat("ingest/w/large/1") == info
        assert await store.put("ingest/w/large/1", content()) == info
        with pytest.raises(ObjectExists):
            await store.put("ingest/w/large/1", zeros(len(block) * count))
    assert b"<Upload>" not in (await prepared.request("GET", query={"uploads": ""})).content


async def test_uploads_in_parts_that_were_left_behind_are_aborted(prepared: S3Connection) -> None:
    async with (
        uploading(prepared, "left/behind", {}) as left,
        uploading(prepared, "others/behind", {}) as others,
    ):
        await left.send(zeros(PART))
        await others.send(zeros(PART))
        await abort_leftovers(prepared, "left/", older_than=3600)
        await abort_leftovers(prepared, "left/", older_than=-60)
        with pytest.raises(Refused, match="NoSuchUpload"):
            await left.complete({})
        await others.complete({})
    assert [entry.key async for entry in S3Store(prepared).listed("left")] == []
    assert [entry.key async for entry in S3Store(prepared).listed("others")] == ["others/behind"]
