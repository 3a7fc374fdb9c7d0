"""The edge: one door, and what it does not let through."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
import pytest

from kgl_servicekit.testing.polling import eventually
from tests.stack.harness import Stack


async def test_every_service_answers_under_its_own_prefix(stack: Stack) -> None:
    async with stack.client() as client:
        names = {
            name: (await client.get(f"/{name}/v1/openapi.json")).status_code
            for name in ("auth", "ingest", "graph", "content", "publish")
        }
    assert set(names.values()) == {200}, names


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/health/ready",
        "/auth/metrics",
        "/admin/",
        "/admin/master/console/",
        "/minio/health/live",
        "/v1/meta",
    ],
)
async def test_metrics_health_and_consoles_have_no_way_in(stack: Stack, path: str) -> None:
    async with stack.client() as client:
        answer = await client.get(path)
    assert answer.status_code in {403, 404}
    assert answer.headers["content-type"] == "application/problem+json"


async def test_another_host_is_sent_to_the_public_one_and_never_served(stack: Stack) -> None:
    async with stack.client() as client:
        read = await client.get("/auth/v1/me?x=1", headers={"Host": "evil.example"})
        write = await client.post("/ingest/v1/documents", json={}, headers={"Host": "evil.example"})
    assert (read.status_code, read.headers["location"]) == (308, f"{stack.url}/auth/v1/me?x=1")
    assert (write.status_code, write.json()["code"]) == (421, "wrong_host")


async def test_a_body_over_the_limit_is_refused_as_a_problem_with_and_without_its_length(stack: Stack) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(12 * 1024):
            yield b"x" * 1024

    async with stack.client() as client:
        told = await client.post("/graph/v1/triples", content=b"x" * (12 * 1024 * 1024))
        chunked = await client.post("/graph/v1/triples", content=endless())
    assert (told.status_code, chunked.status_code) == (413, 413)
    assert told.headers["content-type"] == chunked.headers["content-type"] == "application/problem+json"


async def test_the_limits_that_are_told_are_those_of_the_edge(stack: Stack) -> None:
    async with stack.client() as client:
        limits = (await client.get("/ingest/v1/limits")).json()
        size = limits["max_upload"]
        files = {"file": ("a.txt", b"a" * (size + 100_000), "text/plain")}
        answer = await client.post("/ingest/v1/documents", files=files)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


async def test_what_a_client_says_of_its_own_address_is_not_believed(stack: Stack) -> None:
    """Each address may register a few times a minute; a forged one does not make another."""
    async with httpx.AsyncClient(base_url=stack.url, trust_env=False) as client:
        answers = [
            await client.post(
                "/auth/v1/register",
                json={"email": f"x{number}@kgl.example", "password": "short", "name": "X"},
                headers={"X-Forwarded-For": f"203.0.113.{number}", "Forwarded": f"for=203.0.113.{number}"},
            )
            for number in range(14)
        ]
        weak = [answer.status_code for answer in answers]
    assert set(weak) <= {422, 429, 403}


async def test_security_headers_and_a_request_id_come_with_every_answer(stack: Stack) -> None:
    async with stack.client() as client:
        for path in ("/auth/v1/me", "/nowhere"):
            answer = await client.get(path)
            assert answer.headers["x-content-type-options"] == "nosniff", path
            assert answer.headers["x-request-id"], path
            assert "nginx/" not in answer.headers.get("server", ""), path


async def test_a_flood_from_one_address_is_refused_while_it_lasts(stack: Stack) -> None:
    answers = b"".join(await asyncio.gather(*(flood(stack, 60) for _ in range(40))))
    assert answers.count(b"HTTP/1.1 401 ") >= 400  # a burst is let through
    refused = answers.partition(b"HTTP/1.1 429 ")[2]
    assert b"Retry-After: 1\r\n" in refused
    assert b'"code":"rate_limited"' in refused

    async def served() -> bool:
        return (await flood(stack, 1)).startswith(b"HTTP/1.1 401 ")

    await eventually(served, within=10, every=0.5)


async def flood(stack: Stack, requests: int) -> bytes:
    """What is answered to so many requests, sent at once on one connection."""
    head = f"GET /ingest/v1/limits HTTP/1.1\r\nHost: {urlsplit(stack.url).netloc}\r\n"
    reader, writer = await connected(stack)
    writer.write((f"{head}\r\n" * (requests - 1) + f"{head}Connection: close\r\n\r\n").encode())
    answers = await asyncio.wait_for(reader.read(-1), 60)
    writer.close()
    return answers


async def test_who_sends_its_request_drop_by_drop_is_let_go(stack: Stack) -> None:
    reader, writer = await connected(stack)
    begun = time.monotonic()
    writer.write(f"GET / HTTP/1.1\r\nHost: {urlsplit(stack.url).netloc}\r\nX-Slow: ".encode())
    end = asyncio.create_task(reader.read())
    with contextlib.suppress(ConnectionError):
        while not end.done() and time.monotonic() - begun < 30:
            writer.write(b"a")
            await writer.drain()
            await asyncio.wait([end], timeout=0.5)
    writer.close()
    assert end.done()
    assert time.monotonic() - begun < 15  # a whole head has 10 s, however often a part of it comes


async def test_a_live_connection_is_upgraded_through_the_edge(stack: Stack) -> None:
    async with stack.client() as client:
        ticket = (await client.post("/live/v1/tickets", json={})).json()["ticket"]
    reader, writer = await connected(stack)
    writer.write(
        f"GET /live/v1?ticket={ticket} HTTP/1.1\r\nHost: {urlsplit(stack.url).netloc}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Origin: {stack.url}\r\n\r\n".encode()
    )
    answer = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    assert b" 101 " in answer, answer


async def connected(stack: Stack) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = urlsplit(stack.url)
    return await asyncio.open_connection(place.hostname, place.port)


async def test_processes_that_come_are_used_and_those_that_die_are_not_seen(stack: Stack) -> None:
    statuses: list[int] = []
    scale = ("up", "--detach", "--wait", "--no-recreate", "--scale")

    async def ask() -> None:
        async with stack.client() as client:
            while True:
                statuses.append((await client.get("/content/v1/items", params={"limit": 1})).status_code)
                await asyncio.sleep(0.02)  # below the edge's rate for one address

    async def both_serve() -> bool:
        lines = (await stack.docker("logs", "--since", "2s", stack.container("edge"))).splitlines()
        served = {json.loads(line)["upstream"] for line in lines if '"/content/v1/items"' in line}
        return len(served) == 2

    asking = asyncio.create_task(ask())
    try:
        await stack.compose(*scale, "content-api=2", "content-api")
        await eventually(both_serve, within=10, every=0.5, what="the second process is not used")
        await stack.docker("kill", "--signal", "KILL", stack.container("content-api", 2))
        await asyncio.sleep(4)
    finally:
        asking.cancel()
        await stack.compose(*scale, "content-api=1", "content-api")
    assert set(statuses) == {200}, Counter(statuses)


async def test_a_process_made_anew_is_found_where_it_is_now(stack: Stack) -> None:
    await stack.compose("rm", "--stop", "--force", "content-api")
    async with stack.client() as client:
        assert (await client.get("/content/v1/items")).status_code in {502, 504}
        occupied = await stack.docker("run", "--detach", "--rm", "--network", f"{stack.project}_edge", "nginx:1.28")
        try:  # its former address is taken
            await stack.compose("up", "--detach", "--wait", "--no-recreate", "content-api")

            async def served() -> bool:
                return (await client.get("/content/v1/items")).status_code == 200

            await eventually(served, within=10, every=0.5)
        finally:
            await stack.docker("stop", occupied.strip())
