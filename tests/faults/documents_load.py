"""The `documents` workload: uploads, new versions and deletions, with an Idempotency-Key each; others read."""

import asyncio
import itertools
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from tests.faults.history import History
from tests.faults.http_client import Answer, Client, ConnectionLost
from tests.faults.system import DocumentsSystem

DEADLINE = 35.0
PATIENCE = 90.0
MOST_AT_ONCE = 32
LOOK_EVERY = 0.25
ENDED = {"done", "failed", "cancelled"}
LOOKED_AT = (
    "/graph/v1/search?q={mark}&mode=text",
    "/graph/v1/search?q={mark}",
    "/operations/v1?limit=1",
    "/content/v1/items?limit=1",
)
_REPEAT = {409, 429, 502, 503, 504}


@dataclass(slots=True)
class Known:
    """A document as its client knows it; a `busy` one is left alone: it is gone, or nobody knows what became of it."""

    id: str
    busy: bool = False


@dataclass(slots=True)
class DocumentsLoad:
    """Clients of the five services. `documents` were acknowledged; `looked_at` are pages, and headers to ask with.

    `mark` is in all texts and keys of this run, so that a system that stays has never seen them.
    """

    system: DocumentsSystem
    history: History
    dice: random.Random
    mark: str = field(default_factory=lambda: f"fault{uuid4().hex[:10]}")
    documents: list[Known] = field(default_factory=list)
    looked_at: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    sent: int = 0
    least: int = 0
    _clients: dict[str, Client] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.looked_at = [(page.format(mark=self.mark), {}) for page in LOOKED_AT]
        self.history.add("invoke", "receipts", kind="look", page="receipts")

    async def drive(self, rate: float, until: asyncio.Event) -> None:
        """So many commands a second: uploads, and for each third one a new version or a deletion."""
        loop, running = asyncio.get_running_loop(), set[asyncio.Task[Any]]()
        looking, due = asyncio.create_task(self._look()), loop.time()
        try:
            while not until.is_set() or self.sent < self.least:
                due = max(due + 1 / rate, loop.time() - 1.0)
                await asyncio.sleep(max(0.0, due - loop.time()))
                if len(running) >= MOST_AT_ONCE:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                task = asyncio.create_task(self._act())
                running.add(task)
                task.add_done_callback(running.discard)
            await asyncio.gather(*running)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _act(self) -> None:
        free = [known for known in self.documents if not known.busy]
        chance = self.dice.random()
        if chance < 0.67 or len(free) < 5:
            await self.upload()
        else:
            await self._change(self.dice.choice(free), delete=chance >= 0.87)

    async def upload(self) -> str | None:
        """One new document; the answer is its operation, None when nobody knows what became of it."""
        told = await self._command("upload", "POST", "/ingest/v1/documents", name=f"{self.mark}-{self.sent + 1}.md")
        if told is None:
            return None
        self.documents.append(Known(told["subject"]))
        return str(told["id"])

    async def _change(self, known: Known, *, delete: bool) -> None:
        known.busy = True
        path = f"/ingest/v1/documents/{known.id}"
        if delete:
            await self._command("delete", "DELETE", path, document=known.id)
        elif await self._command("version", "POST", f"{path}/versions", document=known.id) is not None:
            known.busy = False

    async def _command(self, kind: str, method: str, path: str, **asked: str) -> Any:
        """Ask until there is an answer that ends it, taken down with its receipt; None when there is no receipt."""
        self.sent += 1
        op = f"{kind}-{self.sent}"
        body = None if method == "DELETE" else self._text(self.sent, asked.get("name", "again.md"))
        self.history.add("invoke", op, kind=kind, **asked)
        until, delay = time.monotonic() + PATIENCE, 0.1
        while time.monotonic() < until:
            answer = await self.ask(op, method, path, body, {"Idempotency-Key": f"{self.mark}-{op}"})
            if answer is not None and answer.status == 202:
                told = answer.json()
                self.history.add("ok", op, operation=told["id"], document=told["subject"])
                return told
            if answer is not None and answer.status in (404, 410) and kind == "delete":
                self.history.add("ok", op)  # gone already: an earlier try was it
                return None
            if answer is not None and answer.status not in _REPEAT:
                self.history.add("fail", op, status=answer.status, body=answer.content[:300].decode())
                return None
            await asyncio.sleep(delay * self.dice.uniform(0.5, 1.5))
            delay = min(delay * 2, 1.0)
        self.history.add("unknown", op)
        return None

    def _text(self, number: int, name: str) -> dict[str, str]:
        text = f"# {number} of {self.mark}\n\nThe tea of **Assam {number}** is grown at Harbour {number}. "
        return {
            "text": text + "The station there measures wind and rain. " * 12,
            "media_type": "text/markdown",
            "name": name,
        }

    async def ask(
        self, op: str, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer | None:
        """One request, taken down; None when no answer came."""
        url = self.system.url(path)
        client = self._clients.setdefault(url, Client(url, {}, DEADLINE))
        begun, answer = time.monotonic(), None
        try:
            answer = await client.request(
                method, path, body, {"Authorization": f"Bearer {self.system.key}", **(headers or {})}
            )
            told: dict[str, Any] = {"status": answer.status, "retry_after": answer.headers.get("retry-after")}
            told["type"] = answer.headers.get("content-type")
        except ConnectionLost as lost:
            told = {"error": str(lost)}
        self.history.add("attempt", op, seconds=round(time.monotonic() - begun, 3), path=path, **told)
        return answer

    async def ended(self, operation: str, within: float) -> bool:
        """Whether a receipt has ended in time."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            answer = await self.ask("receipts", "GET", f"/operations/v1/{operation}?wait=5")
            if answer is not None and answer.status == 200 and answer.json()["state"] in ENDED:
                return True
            await asyncio.sleep(0.2)
        return False

    async def _look(self) -> None:
        """Ask for a page, and the next one, until cancelled."""
        for number in itertools.count(1):
            page, headers = self.looked_at[number % len(self.looked_at)]
            op = f"look-{number}"
            self.history.add("invoke", op, kind="look", page=page.partition("?")[0])
            answer = await self.ask(op, "GET", page, headers=headers)
            if answer is not None:
                self.history.add("ok" if answer.status < 400 else "fail", op, status=answer.status)
            await asyncio.sleep(LOOK_EVERY)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.__aexit__()
