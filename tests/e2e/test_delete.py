"""A deleted document is gone: its words are nowhere any more."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from kgl_cli.postgres import DATABASES, open_databases
from kgl_cli.testing import DevSystem, dev_system

CANARY = "Zyxwvutonian"
TEXT = f"""# The {CANARY} Institute

The {CANARY} Institute requires pypdf. Dr {CANARY} Smith works at the {CANARY} Institute in Berlin, and he is satisfied.
"""


@pytest.mark.timeout(120)
def test_the_words_of_a_deleted_document_are_nowhere_any_more() -> None:
    with dev_system() as system:
        owner = system.start()
        headers = {"Authorization": f"Bearer {owner.api_key}"}
        with httpx.Client(base_url=owner.url, headers=headers, timeout=70, trust_env=False) as http:
            body = {"text": TEXT, "media_type": "text/markdown", "name": f"{CANARY}.md", "title": f"{CANARY} title"}
            receipt = http.post("/ingest/v1/documents", json=body).json()
            assert _ended(http, receipt)["state"] == "done"
            assert asyncio.run(_rows(system))  # the search for it can find something
            deleted = _ended(http, http.delete(f"/ingest/v1/documents/{receipt['subject']}").json())
            assert deleted["state"] == "done"
            told = {stage["name"]: stage for stage in deleted["stages"]}
        removed = {kind: many for stage in told.values() for kind, many in stage["removed"].items()}
        assert removed.keys() == {
            *("files", "texts", "chunks", "mentions", "entities", "relations", "results", "drafts", "links")
        }
        assert all(removed[kind] > 0 for kind in removed.keys() - {"links", "relations"}), removed
        assert set(told["ingest.erase"]["kept_until"]) == {"events", "dead_letters_of_modules", "failed_jobs"}
        assert (asyncio.run(_rows(system)), list(_files(system))) == ([], [])


def _ended(http: httpx.Client, receipt: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = http.get(f"/operations/v1/{receipt['id']}", params={"wait": 60}).json()
    return answer


async def _rows(system: DevSystem) -> list[str]:
    """Database, table and row of everything that has the word, as text or as bytes."""
    found = []
    superuser = (await open_databases(system.home)).superuser
    for database in DATABASES:
        connection = await asyncpg.connect(superuser, database=database)
        tables = await connection.fetch(
            "select format('%I.%I', schemaname, tablename) as name from pg_tables"
            " where schemaname not in ('pg_catalog', 'information_schema')"
        )
        for table in tables:
            rows = await connection.fetch(f"select t::text as row from {table['name']} t")
            found += [
                f"{database} {table['name']} {row['row'][:300]}"
                for row in rows
                if CANARY.lower() in row["row"].lower() or CANARY.encode().hex() in row["row"]
            ]
        await connection.close()
    return found


def _files(system: DevSystem) -> Iterator[Path]:
    for path in system.home.path.rglob("*"):
        if path.is_file() and "postgres" not in path.parts and CANARY.encode() in path.read_bytes():
            yield path
