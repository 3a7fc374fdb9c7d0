"""The `documents` workload: uploads, new versions and deletions over HTTP, each with an Idempotency-Key."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any

from tests.faults.documents_system import WORKSPACE, DocumentsSystem
from tests.faults.history import History
from tests.faults.http_client import Answer, Client, ConnectionLost

DEADLINE = 15.0
PATIENCE = 60.0
MOST_AT_ONCE = 16
ENDED = {"done", "failed", "cancelled"}
_REPEAT = {409, 429, 503}


@dataclass(slots=True)
class Known:
    """A document as its client knows it: its texts so far, and whether it was deleted; a `busy` one is left alone."""

    id: str
    versions: int = 1
    deleted: bool = False
    busy: bool = False


@dataclass(slots=True)
class DocumentsLoad:
    """Clients of the five services; `documents` are those that were acknowledged."""

    system: DocumentsSystem
    history: History
    dice: random.Random
    authorization: str = ""
    documents: dict[str, Known] = field(default_factory=dict)
    _clients: dict[str, Client] = field(default_factory=dict)
    _number: int = 0

    def __post_init__(self) -> None:
        self.authorization = f"Bearer {self.system.key}"

    async def drive(self, rate: float, until: asyncio.Event) -> None:
        """So many documents a second: uploads, and for each third one a new version or a deletion."""
        loop, running, due = asyncio.get_running_loop(), set[asyncio.Task[Any]](), 0.0
        while not until.is_set():
            due = max(due + 1 / rate, loop.time() - 1.0)
            await asyncio.sleep(max(0.0, due - loop.time()))
            if len(running) >= MOST_AT_ONCE:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(self._act())
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)

    async def _act(self) -> None:
        free = [known for known in self.documents.values() if not known.busy and not known.deleted]
        chance = self.dice.random()
        if chance < 0.67 or len(free) < 5:
            await self.upload()
        elif chance < 0.87:
            await self._add_version(self.dice.choice(free))
        else:
            await self._delete(self.dice.choice(free))

    async def upload(self) -> str | None:
        """One new document; the answer is its operation, None when nobody knows what became of it."""
        answer = await self._command("upload", "POST", "/ingest/v1/documents", self._text())
        if answer is None:
            return None
        told = answer.json()
        document = str(told["subject"]["id"] if isinstance(told["subject"], dict) else told["subject"])
        self.documents[document] = Known(document)
        return str(told["id"])

    async def _add_version(self, known: Known) -> None:
        known.busy = True
        path = f"/ingest/v1/documents/{known.id}/versions"
        if await self._command("version", "POST", path, self._text(), document=known.id) is not None:
            known.versions += 1
            known.busy = False

    async def _delete(self, known: Known) -> None:
        """A repeat may find it gone: then the first try was it."""
        known.busy = True
        path = f"/ingest/v1/documents/{known.id}"
        if await self._command("delete", "DELETE", path, None, document=known.id, gone_is_done=True) is not None:
            known.deleted = True

    def _text(self) -> dict[str, Any]:
        self._number += 1
        name = f"number{self._number}x of {self.dice.randrange(10**9)}"
        text = f"# {name}\n\nThe station at Harbour {self._number} measures wind and rain. " * 12
        return {"text": text, "media_type": "text/markdown", "name": f"{self._number}.md"}

    async def _command(
        self,
        kind: str,
        method: str,
        path: str,
        body: Any,
        *,
        document: str | None = None,
        gone_is_done: bool = False,
    ) -> Answer | None:
        """Ask until there is an answer that ends it; taken down with its receipt."""
        self._number += 1
        op = f"{kind}-{self._number}"
        self.history.add("invoke", op, kind=kind, document=document)
        until, delay = time.monotonic() + PATIENCE, 0.1
        while time.monotonic() < until:
            answer = await self.ask(op, method, path, body, key=op)
            if answer is not None and answer.status == 202:
                self.history.add("ok", op, operation=answer.json()["id"])
                return answer
            if answer is not None and answer.status in (404, 410) and gone_is_done:
                self.history.add("ok", op)
                return answer
            if answer is not None and answer.status not in _REPEAT:
                self.history.add("fail", op, status=answer.status, body=answer.content[:300].decode())
                return None
            await asyncio.sleep(delay * self.dice.uniform(0.5, 1.5))
            delay = min(delay * 2, 1.0)
        self.history.add("unknown", op)
        return None

    async def ask(
        self, op: str, method: str, path: str, body: Any = None, *, key: str | None = None, token: str | None = None
    ) -> Answer | None:
        """One request, taken down; None when no answer came."""
        url = self.system.url(path)
        client = self._clients.setdefault(url, Client(url, {}, DEADLINE))
        headers = {"Authorization": token or self.authorization, **({"Idempotency-Key": key} if key else {})}
        if token is not None:
            headers["Kgl-Workspace"] = WORKSPACE  # a person may have several
        begun, answer = time.monotonic(), None
        try:
            answer = await client.request(method, path, body, headers)
            told: dict[str, Any] = {"status": answer.status, "retry_after": answer.headers.get("retry-after")}
            told["type"] = answer.headers.get("content-type")
        except ConnectionLost as lost:
            told = {"error": str(lost)}
        self.history.add("attempt", op, seconds=round(time.monotonic() - begun, 3), path=path, **told)
        return answer

    async def ended(self, operation: str, within: float) -> str:
        """How a receipt has ended; `running` when it has not in time."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            answer = await self.ask("receipts", "GET", f"/operations/v1/{operation}?wait=5")
            if answer is not None and answer.status == 200 and answer.json()["state"] in ENDED:
                return str(answer.json()["state"])
            await asyncio.sleep(0.2)
        return "running"

    async def close(self) -> None:
        for client in self._clients.values():
            await client.__aexit__()
