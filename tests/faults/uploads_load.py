"""The `uploads` workload: documents through the edge, each with an Idempotency-Key, and readers who look meanwhile."""

import asyncio
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from tests.faults.history import History
from tests.stack.harness import Stack

MOST_AT_ONCE = 32
PATIENCE = 90.0
LOOK_EVERY = 0.25
REPEATED = {409, 429, 502, 503, 504}
LOOKED_AT = (
    "/graph/v1/search?q={mark}&mode=text",
    "/graph/v1/search?q={mark}",
    "/operations/v1?limit=1",
    "/content/v1/items?limit=1",
)
ENDED = {"done", "failed", "cancelled"}


@dataclass(slots=True)
class UploadsLoad:
    """Clients of the whole system. `looked_at` are pages that are asked for by turns, with the key of each."""

    stack: Stack
    history: History
    mark: str = field(default_factory=lambda: f"fault{uuid4().hex[:10]}")
    looked_at: list[tuple[str, str]] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        key = self.stack.credentials.api_key
        self.looked_at = [(page.format(mark=self.mark), key) for page in LOOKED_AT]

    async def drive(self, rate: float, until: asyncio.Event, most: int | None = None) -> None:
        """Upload at this rate, whatever the answers take (up to 32 at once), until told, or so many."""
        loop, running = asyncio.get_running_loop(), set[asyncio.Task[Any]]()
        looking = asyncio.create_task(self._look())
        try:
            async with self.stack.client() as http:
                due, sent = loop.time(), 0
                while not until.is_set() and (most is None or sent < most):
                    due = max(due + 1 / rate, loop.time() - 1.0)
                    await asyncio.sleep(max(0.0, due - loop.time()))
                    while len(running) >= MOST_AT_ONCE:
                        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    sent += 1
                    task = asyncio.create_task(self.upload(http))
                    running.add(task)
                    task.add_done_callback(running.discard)
                await asyncio.gather(*running)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def upload(self, http: httpx.AsyncClient) -> str | None:
        """One document; the answer is its operation, None when nobody knows what became of it."""
        number = next(self._numbers)
        op, name = f"upload-{number}", f"{self.mark}-{number}.md"
        body = {
            "text": f"# {name}\n\nThe {number}th of {self.mark} is grown in **Assam {number}** and sold in London.",
            "media_type": "text/markdown",
            "name": name,
        }
        self.history.add("invoke", op, kind="upload", name=name)
        until, delay = time.monotonic() + PATIENCE, 0.2
        while time.monotonic() < until:
            answer = await self.ask(
                http, op, "POST", "/ingest/v1/documents", json=body, headers={"Idempotency-Key": f"{self.mark}-{op}"}
            )
            if answer is not None and answer.status_code == 202:
                told = answer.json()
                self.history.add("ok", op, name=name, operation=told["id"], document=told["subject"])
                return str(told["id"])
            if answer is not None and answer.status_code not in REPEATED:
                self.history.add("fail", op, status=answer.status_code, body=answer.text[:300])
                return None
            await asyncio.sleep(delay)
            delay = min(delay * 2, 1.0)
        self.history.add("unknown", op)
        return None

    async def ask(self, http: httpx.AsyncClient, op: str, method: str, path: str, **what: Any) -> httpx.Response | None:
        """One request, taken down; None when no answer came."""
        begun = time.monotonic()
        answer: httpx.Response | None = None
        try:
            answer = await http.request(method, path, **what)
            told = _told(answer)
        except httpx.TransportError as lost:
            told = {"error": type(lost).__name__}
        self.history.add("attempt", op, seconds=round(time.monotonic() - begun, 3), path=path.partition("?")[0], **told)
        return answer

    async def _look(self) -> None:
        """Ask for a page, and the next one, until cancelled."""
        async with self.stack.client() as http:
            for number in itertools.count(1):
                page, key = self.looked_at[number % len(self.looked_at)]
                op = f"look-{number}"
                self.history.add("invoke", op, kind="look", page=page)
                answer = await self.ask(http, op, "GET", page, headers={"Authorization": f"Bearer {key}"})
                if answer is not None:
                    self.history.add("ok" if answer.status_code < 400 else "fail", op, status=answer.status_code)
                await asyncio.sleep(LOOK_EVERY)


def _told(answer: httpx.Response) -> Mapping[str, Any]:
    headers = answer.headers
    return {
        "status": answer.status_code,
        "retry_after": headers.get("retry-after"),
        "type": headers.get("content-type"),
    }
