"""Reads and commands over HTTP: the kit against bare ASGI and asyncpg with the same transactions.

Each side is a uvicorn (uvloop, httptools) of its own on core 0, with a database of its own; the load and the
Postgres that both use run on core 1. Sides take turns. Requests per second are those of 16 connections that
ask without a pause; times are measured at half of that rate, from when a request was due.
"""

import os
import statistics
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID, uuid4

from benchmarks.harness import ROUNDS, Result, at_least, at_most, in_turn
from benchmarks.served.cores import CLIENT_CORE, pin
from benchmarks.served.sides import Case, Side, served
from kgl_servicekit.identity.credential import ApiKey
from kgl_servicekit.testing.postgres import PostgresForTests, temporary_postgres

SECONDS = 2.0
SHARE = 0.5
MOST_P99_MS = 10.0
_ASKED = 200
_NOTES = "/sample/v1/notes"
_NEW = '{"title":"A new note","body":"What a note says, in a line or two that somebody wrote."}'


async def measure() -> list[Result]:
    """Requests per second of both sides and times of ours, for a read, a page and a command."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    pin(CLIENT_CORE)
    try:
        with temporary_postgres() as url, tempfile.TemporaryDirectory() as logs:
            return await _measure(PostgresForTests(url), Path(logs))
    finally:
        if allowed is not None:
            os.sched_setaffinity(0, allowed)


async def _measure(postgres: PostgresForTests, logs: Path) -> list[Result]:
    workspace, key = uuid4(), ApiKey.generate()
    async with AsyncExitStack() as stack:
        ours, limit = [
            await stack.enter_async_context(served(module, postgres, workspace, key, logs / module))
            for module in ("service", "limit")
        ]
        results: list[Result] = []
        for of_ours, of_limit in zip(_cases(ours, workspace, key), _cases(limit, workspace, key), strict=True):
            results += await _compare((ours, of_ours), (limit, of_limit))
        return results


def _cases(side: Side, workspace: UUID, key: ApiKey) -> list[Case]:
    """The same requests for both sides, about the notes that each has."""
    headers = (
        "Host: localhost:8080\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\n"
        f"User-Agent: kgl-bench\r\nAuthorization: Bearer {key.text}\r\nKgl-Workspace: {workspace}\r\n"
    )
    gets = tuple(f"GET {_NOTES}/{note} HTTP/1.1\r\n{headers}\r\n" for note in side.notes[:_ASKED])
    sent = f"{headers}Content-Type: application/json\r\nContent-Length: {len(_NEW)}\r\n"
    return [
        Case("http: GET by id", gets, 200),
        Case("http: GET a page of 50", (f"GET {_NOTES}?limit=50 HTTP/1.1\r\n{headers}\r\n",), 200),
        Case("http: POST with an event", (f"POST {_NOTES} HTTP/1.1\r\n{sent}\r\n{_NEW}",), 201),
    ]


async def _compare(ours: tuple[Side, Case], limit: tuple[Side, Case]) -> list[Result]:
    async def rate_of(side: Side, case: Case) -> float:
        return (await side.measure(case, SECONDS)).per_second

    for side, case in (ours, limit):
        await side.measure(case, SECONDS / 4)
    pair = await in_turn(lambda: rate_of(*ours), lambda: rate_of(*limit))
    side, case = ours
    paced = [await side.measure(case, SECONDS, rate=pair.ours / 2) for _ in range(ROUNDS)]
    return [
        at_least(case.name, "1/s", pair, SHARE),
        at_most(f"{case.name}, p99 at half load", "ms", statistics.median(each.p99 for each in paced), MOST_P99_MS),
    ]
