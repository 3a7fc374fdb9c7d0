"""Files through the edge: by the API and by signed links, each against MinIO itself, with one client and one file.

All are asked at the addresses of their containers: how Docker publishes a port is not measured."""

import os
import secrets
import time
from datetime import UTC, datetime

import httpx

from benchmarks.harness import Result, at_least, in_turn
from kgl_servicekit.objects.s3_signature import Signer
from tests.stack.harness import Stack

MB = 1_000_000
FILE = 16 * MB
TIMES = 6


async def measure() -> list[Result]:
    """MB in a second, one file after another. Nothing parses them meanwhile: the worker is stopped."""
    stack = Stack.running()
    await stack.compose("stop", "ingest-worker")
    try:
        return await _measured(stack)
    finally:
        await stack.compose("start", "ingest-worker")


async def _measured(stack: Stack) -> list[Result]:
    bare = _Bare(f"http://{await stack.address('minio')}:9000", stack)
    async with (
        await stack.near_client() as edge,
        await stack.near_client(anonymous=True) as anonymous,
        httpx.AsyncClient(timeout=60, trust_env=False) as client,
    ):
        receipt = await _upload(edge, _file())
        document = f"/ingest/v1/documents/{receipt['subject']}"
        link = (await edge.get(f"{document}/file/link")).json()["url"].removeprefix(stack.url)
        stored = bare.link("PUT")
        await _put(client, stored, _file())
        there = bare.link("GET", stored)

        async def upload() -> float:
            contents = [_file() for _ in range(TIMES)]
            begun = time.perf_counter()
            for content in contents:
                await _upload(edge, content)
            return _rate(begun)

        async def put() -> float:
            contents = [_file() for _ in range(TIMES)]
            begun = time.perf_counter()
            for content in contents:
                await _put(client, bare.link("PUT"), content)
            return _rate(begun)

        async def download(by: httpx.AsyncClient, url: str) -> float:
            begun = time.perf_counter()
            for _ in range(TIMES):
                await _get(by, url)
            return _rate(begun)

        uploads = await in_turn(upload, put)
        downloads = await in_turn(lambda: download(edge, f"{document}/file"), lambda: download(client, there))
        links = await in_turn(lambda: download(anonymous, link), lambda: download(client, there))
    return [
        at_least("files: upload through edge and API, against MinIO itself", "MB/s", uploads, 0.85),
        at_least("files: download through edge and API, against MinIO itself", "MB/s", downloads, 0.85),
        at_least("files: download by a signed link through the edge, against MinIO itself", "MB/s", links, 0.98),
    ]


class _Bare:
    """MinIO without anything before it, as its administrator."""

    def __init__(self, url: str, stack: Stack) -> None:
        self._url = url
        self._bucket = stack.settings.get("KGL_S3_BUCKET", "kgl-documents")
        self._signer = Signer("admin", stack.settings["KGL_S3_ADMIN_PASSWORD"], "us-east-1")

    def link(self, method: str, put: str | None = None) -> str:
        """A URL for this request, of a new object or of the one that a URL has put."""
        path = f"/{self._bucket}/bench/{secrets.token_hex(8)}" if put is None else httpx.URL(put).path
        return self._signer.link(method, self._url, path, {}, 3600, datetime.now(UTC))


async def _upload(edge: httpx.AsyncClient, content: bytes) -> dict[str, str]:
    answer = await edge.post("/ingest/v1/documents", files={"file": ("bench.pdf", content, "application/pdf")})
    assert answer.status_code == 202, answer.text
    receipt: dict[str, str] = answer.json()
    return receipt


async def _put(client: httpx.AsyncClient, url: str, content: bytes) -> None:
    answer = await client.put(url, content=content)
    assert answer.status_code == 200, answer.text


async def _get(client: httpx.AsyncClient, url: str) -> None:
    size = 0
    async with client.stream("GET", url) as answer:
        assert answer.status_code == 200
        async for block in answer.aiter_raw():
            size += len(block)
    assert size == FILE


def _file() -> bytes:
    """What passes for a PDF, and is another file each time."""
    return b"%PDF-1.7\n" + os.urandom(FILE - 9)


def _rate(begun: float) -> float:
    return TIMES * FILE / MB / (time.perf_counter() - begun)
