"""The embedded bus loses what it had; one command has the outboxes send it again, and nothing happens twice."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import asyncpg
import httpx
import pytest

from kgl_cli.postgres import open_databases
from kgl_cli.testing import DevSystem, dev_system


@pytest.fixture
def system() -> Iterator[DevSystem]:
    with dev_system() as system:
        yield system


async def lose_all(system: DevSystem) -> None:
    """The bus is as if it had never been; the outboxes are untouched."""
    databases = await open_databases(system.home)
    bus = await asyncpg.connect(databases.owner("kgl_bus"))
    await bus.execute("truncate log_topic, log_record cascade")
    await bus.close()


def refill(system: DevSystem) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kgl_cli.main", "refill"],
        env={**os.environ, "KGL_HOME": str(system.home.path)},
        cwd=system.home.path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def upload(http: httpx.Client, text: str) -> str:
    answer = http.post("/ingest/v1/documents", json={"text": text, "media_type": "text/markdown"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def ended(http: httpx.Client, operation: str) -> str:
    for _ in range(20):
        answer = http.get(f"/operations/v1/{operation}", params={"wait": 5}).json()
        if answer["state"] in {"done", "failed"}:
            break
    return str(answer["state"])


def hits(http: httpx.Client, word: str) -> int:
    return len(http.get("/graph/v1/search", params={"q": word}).json()["hits"])


def test_a_bus_that_lost_all_is_refilled_by_one_command_beside_the_running_system(system: DevSystem) -> None:
    key = system.start().api_key
    known = system.home.any_credentials()
    assert known is not None
    with httpx.Client(
        base_url=known.url, headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False
    ) as http:
        assert ended(http, upload(http, "# Tea\n\nAssam grows quillwort.")) == "done"
        system.kill()
        asyncio.run(lose_all(system))
        system.start()
        waiting = upload(http, "# Coffee\n\nKaffa grows quillwort.")
        done = refill(system)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "kgl.documents" in done.stdout, done.stdout
        assert ended(http, waiting) == "done"
        assert hits(http, "quillwort") == 2
        assert refill(system).stdout.count("nothing is lost") == 5
    assert system.stop() == 0
