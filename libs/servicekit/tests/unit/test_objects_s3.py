"""What S3Store makes of a server that is away, refuses, or answers what servers seldom do."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from urllib3.exceptions import ProtocolError

from kgl_servicekit.errors import Unavailable
from kgl_servicekit.objects.port import ObjectExists, ObjectMissing
from kgl_servicekit.objects.s3 import S3Store
from kgl_servicekit.objects.s3_connection import Refused, Request
from kgl_servicekit.objects.s3_multipart import PART
from kgl_servicekit.settings import NotConfigured
from kgl_servicekit.testing.s3 import S3Fault, S3ForTests, Stored, query_in


@pytest.fixture
def server() -> S3ForTests:
    return S3ForTests()


async def blocks(size: int) -> AsyncIterator[bytes]:
    yield bytes(size)


def fault(name: str, *, status: int | None = None, on: str, query: str = "") -> Callable[[Request], None]:
    """Refuse requests of a method, with a query that contains something."""

    def refuse(request: Request) -> None:
        if request.method == on and query in request.url:
            raise S3Fault(name, status)

    return refuse


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"access_key": "nobody"}, "KGL_S3_ACCESS_KEY is refused"),
        ({"secret_key": "wrong"}, "KGL_S3_SECRET_KEY .or KGL_S3_SECRET_KEY_FILE. is not that of KGL_S3_ACCESS_KEY"),
        ({"bucket": "missing"}, "KGL_S3_BUCKET is refused: there is no such bucket"),
    ],
)
async def test_what_is_set_wrong_is_named_at_the_start(server: S3ForTests, changed: dict[str, str], said: str) -> None:
    with pytest.raises(NotConfigured, match=said):
        await S3Store(server.connection(**changed)).start()


async def test_a_refusal_that_has_no_sentence_is_named_by_its_code(server: S3ForTests) -> None:
    server.fault = fault("AllAccessDisabled", on="GET")
    with pytest.raises(NotConfigured, match="KGL_S3_URL answers AllAccessDisabled"):
        await server.store().start()


async def test_a_server_in_trouble_is_unavailable_and_no_setting_is_blamed(server: S3ForTests) -> None:
    server.fault = fault("SlowDown", status=503, on="GET")
    with pytest.raises(Unavailable) as raised:
        await server.store().start()
    assert (raised.value.retry_after, raised.value.detail) == (5, "The object store answers SlowDown.")


async def test_a_server_that_is_away_is_unavailable_for_every_call(server: S3ForTests) -> None:
    with socket.socket() as taken:  # bound and not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        connection = replace(server.connection(url=url), send=None)
        store = S3Store(connection)
        calls = [
            store.start(),
            store.ping(),
            store.put("k", b"x"),
            store.put("k", blocks(2 * PART)),
            store.get("k"),
            store.stat("k"),
            store.delete("k"),
            anext(aiter(store.listed(""))),
            anext(aiter(store.stream("k"))),
        ]
        for call in calls:
            with pytest.raises(Unavailable) as raised:
                await call
            assert raised.value.retry_after == 5
        await connection.close()


async def test_a_server_that_says_nothing_fails_the_ping_in_time(server: S3ForTests) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        connection = replace(server.connection(url=url), send=None)
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            await S3Store(connection).ping()
        assert time.monotonic() - begun < 2
        await connection.close()


async def test_a_missing_bucket_is_no_missing_object(server: S3ForTests) -> None:
    store = S3Store(server.connection(bucket="missing"))
    with pytest.raises(Refused, match="NoSuchBucket"):
        await store.get("k")
    with pytest.raises(ObjectMissing):
        await server.store().get("k")


async def test_a_connection_lost_while_reading_is_unavailable(server: S3ForTests) -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        writer.close()

    async with await asyncio.start_server(broken, "127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        store = S3Store(replace(server.connection(url=url), send=None))
        with pytest.raises(Unavailable):
            _ = [block async for block in store.stream("k")]
        with pytest.raises(Unavailable):
            await store.get("k")


async def test_a_request_on_a_connection_that_the_server_was_closing_is_sent_again(server: S3ForTests) -> None:
    ended = iter([ProtocolError("reset by peer")])

    def once(request: Request) -> None:
        for error in ended:
            raise error

    server.fault = once
    await server.store().put("k", b"x")
    assert server.objects["k"].content == b"x"


async def test_a_key_that_another_is_writing_is_tried_again_later_unless_it_is_the_same(server: S3ForTests) -> None:
    store = server.store()
    server.fault = fault("ConditionalRequestConflict", status=409, on="PUT")
    with pytest.raises(Unavailable) as raised:
        await store.put("k", b"one")
    assert raised.value.retry_after == 1
    server.fault = lambda request: None
    await store.put("k", b"one")
    server.fault = fault("ConditionalRequestConflict", status=409, on="PUT")
    await store.put("k", b"one")
    with pytest.raises(ObjectExists):
        await store.put("k", b"two")


@pytest.mark.parametrize("size", [10, 2 * PART])
async def test_a_refusal_that_is_lost_with_its_connection_is_found_out(server: S3ForTests, size: int) -> None:
    def lost(request: Request) -> None:
        if request.method in ("PUT", "POST") and not {"uploads", "partNumber"} & query_in(request).keys():
            raise ProtocolError("reset by peer")

    store = server.store()
    server.fault = lost
    with pytest.raises(Unavailable):
        await store.put("k", blocks(size))
    server.fault = lambda request: None
    await store.put("k", blocks(size))
    server.fault = lost
    await store.put("k", blocks(size))
    with pytest.raises(ObjectExists):
        await store.put("k", b"other")
    assert server.uploads == {}


async def test_an_upload_in_parts_that_fails_after_its_answer_began_leaves_nothing(server: S3ForTests) -> None:
    store = server.store()
    server.fault = fault("InternalError", status=200, on="POST", query="uploadId")
    with pytest.raises(Refused, match="InternalError"):
        await store.put("k", blocks(2 * PART))
    assert (server.objects, server.uploads) == ({}, {})


async def test_an_upload_in_parts_that_is_cancelled_leaves_nothing(server: S3ForTests) -> None:
    arrived = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield bytes(2 * PART)
        yield bytes(PART)
        arrived.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(server.store().put("k", endless()))
    await arrived.wait()
    assert len(server.uploads) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (server.objects, server.uploads) == ({}, {})


def leave_uploads(server: S3ForTests) -> None:
    now = datetime.now(UTC)
    for id, (key, hours) in {"1": ("ours/a", 2), "2": ("ours/b", 0), "3": ("theirs/a", 2), "4": ("ours/c", 9)}.items():
        server.uploads[id] = Stored(key, {}, at=now - timedelta(hours=hours))


async def test_old_uploads_of_crashed_writers_are_aborted_at_the_start(server: S3ForTests) -> None:
    leave_uploads(server)
    await server.store(prefix="ours", read_only=True).start()
    assert len(server.uploads) == 4
    await server.store(prefix="ours").start()
    assert set(server.uploads) == {"2", "3"}


async def test_old_uploads_are_looked_for_again_with_a_new_one(server: S3ForTests) -> None:
    leave_uploads(server)
    store = server.store(prefix="ours")
    server.fault = fault("AccessDenied", on="GET", query="uploads")
    await store.put("k", blocks(2 * PART))
    assert len(server.uploads) == 4
    server.fault = lambda request: None
    await server.store(prefix="ours").put("l", blocks(2 * PART))
    assert set(server.uploads) == {"2", "3"}


async def test_a_store_of_two_roles_is_open_until_the_second_ends(server: S3ForTests) -> None:
    connection = server.connection()
    store = S3Store(connection)
    await store.start()
    await store.start()
    await store.stop()
    assert connection._threads is not None
    await store.stop()
    assert connection._threads is None
    server.fault = fault("SlowDown", status=503, on="GET")
    with pytest.raises(Unavailable):
        await store.start()
    assert connection._threads is None


async def test_a_prefix_keeps_what_others_have_in_the_bucket_apart(server: S3ForTests) -> None:
    server.objects["other/k"] = Stored("other/k", {}, b"theirs")
    store = server.store(prefix="ours")
    await store.put("k", b"mine")
    assert [entry.key async for entry in store.listed("")] == ["k"]
    assert set(server.objects) == {"ours/k", "other/k"}


async def test_an_object_that_others_put_there_has_a_hash_as_well(server: S3ForTests) -> None:
    server.objects["k"] = Stored("k", {}, b"hello")
    info = await server.store().stat("k")
    assert info is not None
    assert (info.size, info.sha256[:8]) == (5, "2cf24dba")


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that only it vouches for, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "store")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "store.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "store.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "store.crt", folder / "store.key"


async def test_a_certificate_is_trusted_if_the_file_of_the_setting_vouches_for_it(
    server: S3ForTests, tmp_path: Path
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    certificate, key = self_signed(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls) as listening:
        url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        connection = replace(server.connection(url=url), send=None)
        with pytest.raises(NotConfigured, match="KGL_S3_CA does not vouch"):
            await S3Store(connection, read_only=True).start()
        trusting = S3Store(replace(connection, ca=certificate), read_only=True)
        await trusting.start()
        await trusting.stop()


def test_a_link_is_of_the_public_host_and_downloads(server: S3ForTests) -> None:
    link = httpx.URL(server.store(prefix="ours").link("a/b", 60, name='evil".html') or "")
    assert (link.scheme, link.host, link.path) == ("https", "kgl.test", "/bucket/ours/a/b")
    assert link.params["response-content-disposition"] == "attachment; filename*=UTF-8''evil%22.html"
    assert link.params["response-content-type"] == "application/octet-stream"
    assert link.params["X-Amz-Expires"] == "60"
