"""The promise under fire: documents go in while the whole system is killed again and again."""

import asyncio
import random
import threading
import time
from collections import Counter
from functools import partial
from typing import Any

import asyncpg
import httpx
import pytest

from kgl_cli.home import Credentials
from kgl_cli.postgres import open_databases
from kgl_cli.testing import DevSystem, dev_system
from kgl_servicekit.testing.polling import eventually

DOCUMENTS, KILLS, SEED = 100, 6, 20261123


def words(number: int) -> str:
    """A text that no other document has, and that search can tell apart."""
    return (
        f"Report number{number}x on the weather station at Harbour{number}.\n\n"
        f"The station measures wind. Its keeper is satisfied with instrument{number}y and with the MIT licence. "
        "Rain was measured twice a day. " * 8
    )


class Uploader(threading.Thread):
    """Sends every document until it is accepted; a repeat carries the same Idempotency-Key."""

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(daemon=True)
        self._http = httpx.Client(
            base_url=credentials.url,
            headers={"Authorization": f"Bearer {credentials.api_key}"},
            timeout=10,
            trust_env=False,
        )
        self.receipts: dict[int, dict[str, Any]] = {}
        self.refused: list[str] = []

    def run(self) -> None:
        for number in range(DOCUMENTS):
            self._send(number)
            time.sleep(0.05)  # spreads the uploads over the kills; nothing waits for it

    def _send(self, number: int) -> None:
        body = {"text": words(number), "media_type": "text/plain", "title": f"Report {number}"}
        until = time.monotonic() + 90
        while time.monotonic() < until:
            try:
                answer = self._http.post(
                    "/ingest/v1/documents", json=body, headers={"Idempotency-Key": f"report-{number}"}
                )
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code == 202:
                self.receipts[number] = answer.json()
                return
            if answer.status_code not in {409, 429, 503} or answer.json()["code"] == "document_duplicate":
                self.refused.append(f"{number}: {answer.status_code} {answer.text}")
                return
            time.sleep(0.05)
        self.refused.append(f"{number}: no answer")


@pytest.mark.timeout(300)
def test_nothing_is_lost_doubled_or_stuck_when_the_system_is_killed_at_random() -> None:
    dice = random.Random(SEED)
    with dev_system() as system:
        credentials = system.start()
        subscribe_to_drafts(credentials)
        uploader = Uploader(credentials)
        uploader.start()
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.3, 2.5))
            system.kill()
            system.start()
        uploader.join(120)
        assert uploader.refused == []
        assert len(uploader.receipts) == DOCUMENTS
        with httpx.Client(
            base_url=credentials.url,
            headers={"Authorization": f"Bearer {credentials.api_key}"},
            timeout=70,
            trust_env=False,
        ) as http:
            wait_for_all(http, uploader.receipts)
            search_each(http, uploader.receipts)
            count_all(http, uploader.receipts)
        asyncio.run(look_into_the_databases(system))
        assert system.stop() == 0


def subscribe_to_drafts(credentials: Credentials) -> None:
    """An endpoint where nobody listens: its deliveries are made, and wait."""
    answer = httpx.post(
        f"{credentials.url}/publish/v1/endpoints",
        json={"url": "http://127.0.0.1:8099/webhooks", "event_types": ["content.item.drafted.v1"]},
        headers={"Authorization": f"Bearer {credentials.api_key}"},
    )
    assert answer.status_code == 201, answer.text


def wait_for_all(http: httpx.Client, receipts: dict[int, dict[str, Any]]) -> None:
    """Every receipt has ended, and well."""
    until = time.monotonic() + 120
    for number, receipt in receipts.items():
        state: dict[str, Any] = {"state": "running"}
        while state["state"] == "running" and time.monotonic() < until:
            state = http.get(f"/operations/v1/{receipt['id']}", params={"wait": 20}).json()
        assert state["state"] == "done", (number, [s for s in state["stages"] if s["state"] != "done"])


def search_each(http: httpx.Client, receipts: dict[int, dict[str, Any]]) -> None:
    """Every document is found by its own word, once."""
    for number, receipt in receipts.items():
        answer = http.get(
            "/graph/v1/search", params={"q": f"number{number}x", "mode": "text", "group": "document"}
        ).json()
        assert [hit["document_id"] for hit in answer["hits"]] == [receipt["subject"]], number


def count_all(http: httpx.Client, receipts: dict[int, dict[str, Any]]) -> None:
    """There is one document and one draft for each upload."""
    documents = pages(http, "/ingest/v1/documents")
    assert sorted(d["id"] for d in documents) == sorted(r["subject"] for r in receipts.values())
    drafts = Counter(item["document_id"] for item in pages(http, "/content/v1/items"))
    assert drafts == Counter(r["subject"] for r in receipts.values())


def pages(http: httpx.Client, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = http.get(path, params={"limit": 200, **({"cursor": cursor} if cursor else {})}).json()
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            return found


async def look_into_the_databases(system: DevSystem) -> None:
    """Behind the APIs, too: nothing double, nothing held, nothing waiting."""
    superuser = (await open_databases(system.home)).superuser
    for database, checks in CHECKS.items():
        connection = await asyncpg.connect(superuser, database=database)
        try:
            for what, sql in checks.items():
                await eventually(partial(none, connection, sql), within=30, what=f"{database}: {what}")
        finally:
            await connection.close()


async def none(connection: asyncpg.Connection, sql: str) -> bool:
    """What no receipt waits for (deliveries) may still be on its way; what is double never goes away."""
    return bool(await connection.fetchval(sql) == 0)


COMMON = {
    "held events": "select count(*) from held_event",
    "failed jobs": "select count(*) from job where state = 'failed'",
    "events that were emitted twice": """
        select count(*) from (select event_id from outbox_log group by event_id having count(*) > 1) d""",
    "gaps in sequences": """
        select count(*) from (select topic, key from outbox_log group by topic, key
                              having max(sequence) <> count(*)) g""",
}
CHECKS = {
    "kgl_ingest": COMMON | {"open receipts": "select count(*) from operation where state = 'running'"},
    "kgl_graph": COMMON
    | {
        "chunks twice": """
            select count(*) from (select document_id, ordinal from chunk group by 1, 2 having count(*) > 1) d""",
        "chunks without a vector": """
            select count(*) from chunk c where not exists (select from chunk_vector v where v.chunk_id = c.id)""",
        "vectors without a chunk": """
            select count(*) from chunk_vector v where not exists (select from chunk c where c.id = v.chunk_id)""",
        "entities twice": """
            select count(*) from (select workspace_id, folded, type from entity
                                  group by 1, 2, 3 having count(*) > 1) d""",
        "mentions of nothing": """
            select count(*) from mention m where not exists (select from entity e where e.id = m.entity_id)""",
        "open requests": "select count(*) from ai_request where state <> 'done'",
    },
    "kgl_content": COMMON
    | {
        "drafts twice": """
            select count(*) from (select document_id from item group by 1 having count(*) > 1) d""",
        "drafts that were rewritten": "select count(*) from item where version <> 1",
    },
    "kgl_publish": COMMON
    | {
        "live events twice": "select count(*) from (select event_id from live_event group by 1 having count(*) > 1) d",
        "deliveries missing or doubled": f"select count(distinct event_id) - {DOCUMENTS} from delivery",
        "delivery ids doubled": "select count(*) - count(distinct webhook_id) from delivery",
    },
}
