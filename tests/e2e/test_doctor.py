"""The doctor of the embedded system: beside it while it works, and when it is down."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from kgl_cli.testing import DevSystem, dev_system


@pytest.fixture
def system() -> Iterator[DevSystem]:
    with dev_system() as system:
        yield system


def kgl(system: DevSystem, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "kgl_cli.main", *words],
        env={**os.environ, "KGL_HOME": str(system.home.path)},
        cwd=system.home.path,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.timeout(300)
def test_all_is_well_beside_a_system_at_work_and_one_that_is_down_is_told_of(system: DevSystem) -> None:
    key = system.start().api_key
    known = system.home.any_credentials()
    assert known is not None
    with httpx.Client(
        base_url=known.url, headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False
    ) as http:
        receipt = http.post("/ingest/v1/documents", json={"text": "# Tea", "media_type": "text/markdown"}).json()
        assert http.get(f"/operations/v1/{receipt['id']}", params={"wait": 30}).json()["state"] == "done"
    assert kgl(system, "doctor", "--drift") == (0, "all is well: auth, ingest, graph, content, publish\n")
    status, told = kgl(system, "drift")
    assert status == 0, told
    assert all(line.endswith(": as its source says") for line in told.splitlines()), told
    assert kgl(system, "rebuild", "publish", "items") == (0, "publish items: 0 keys\n")
    assert kgl(system, "rebuild", "graph", "links") == (0, "graph links: 1 keys\n")
    system.kill()
    status, told = kgl(system, "doctor", "--json")
    found: list[dict[str, Any]] = json.loads(told)
    assert status == 1
    assert ("system", "no kgl dev runs on this KGL_HOME", "make dev") in {
        (each["service"], each["what"], each["todo"]) for each in found
    }
    assert {each["check"] for each in found} <= {"process", "workers", "outbox", "lag", "identity"}
