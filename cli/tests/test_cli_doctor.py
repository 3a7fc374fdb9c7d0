"""`kgl doctor` on containers: a docker that answers what a test wants stands in for them."""

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from kgl_cli.doctor import doctor
from kgl_cli.drift import drift
from kgl_cli.home import Home
from kgl_cli.rebuild import rebuild
from kgl_contracts.rights import SERVICES

FINDING = {"service": "graph", "check": "lag", "what": "graph.documents is 3 events behind", "todo": "look"}


def docker(folder: Path, monkeypatch: pytest.MonkeyPatch, *, graph: str = "[]", states: str = "running") -> None:
    """Containers of graph in this state, and services of which graph answers so and the others are well."""
    container = {"Name": "kgl-graph-worker-1", "Service": "graph-worker", "State": states}
    (folder / "docker").write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f"  *'ps --all'*) echo '{json.dumps(container) if states else ''}' ;;\n"
        f"  *'graph-worker do'*|*'graph-worker dr'*) echo '{graph}'; echo 'graph says this' >&2 ;;\n"
        "  *'-worker drift --json --repair'*) echo '[]' ;;\n"
        "  *'publish-worker rebuild items'*) exit 3 ;;\n"
        "  *'-worker doctor --json'*) echo '[]' ;;\n"
        "  *) echo unexpected >&2; exit 1 ;;\n"
        "esac\n"
    )
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    (folder / ".env").write_text("KGL_PORT=8080\n")


async def told(folder: Path, *, json: bool = False) -> tuple[int, str]:
    out = io.StringIO()
    status = await doctor(Home(folder), folder, Console(file=out, width=60), embedded=False, json=json)
    return status, out.getvalue()


async def test_a_system_that_is_well_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(tmp_path, monkeypatch)
    assert await told(tmp_path) == (0, f"all is well: {', '.join(SERVICES)}\n")
    assert await told(tmp_path, json=True) == (0, "[]\n")


async def test_what_a_service_finds_is_told_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(tmp_path, monkeypatch, graph=json.dumps([FINDING]))
    status, lines = await told(tmp_path)
    assert (status, lines.splitlines()) == (
        1,
        ["graph: graph.documents is 3 events behind", "    to do: look", "1 findings"],
    )
    status, lines = await told(tmp_path, json=True)
    assert (status, json.loads(lines)) == (1, [FINDING])


async def test_a_service_that_cannot_be_asked_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker(tmp_path, monkeypatch, graph="", states="restarting")
    status, lines = await told(tmp_path, json=True)
    assert status == 1
    assert [(row["service"], row["what"]) for row in json.loads(lines)] == [
        ("graph-worker", "graph-worker is restarting"),
        ("graph", "graph cannot be asked: graph says this"),
    ]


async def test_a_system_that_is_not_there_and_a_docker_that_is_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker(tmp_path, monkeypatch, states="")
    assert "no container of the system is there" in (await told(tmp_path))[1]
    (tmp_path / "docker").write_text("#!/bin/sh\necho away >&2; exit 1\n")
    assert "Docker cannot be asked: away" in (await told(tmp_path))[1]


async def test_without_any_system_it_says_where_it_looked(tmp_path: Path) -> None:
    status, lines = await told(tmp_path)
    assert status == 2
    assert "There is neither" in lines


DRIFT = {
    "check": "graph.entities",
    "items": 2,
    "repaired": 1,
    "complete": True,
    "examples": ["w/e: without a source"],
    "error": None,
}


async def test_drift_of_all_services_is_one_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(tmp_path, monkeypatch, graph=json.dumps([DRIFT]))
    out = io.StringIO()
    console, home = Console(file=out, width=60), Home(tmp_path)
    assert await drift(home, tmp_path, console, embedded=False, repair=True, json=False) == 1
    assert out.getvalue().splitlines() == [
        "graph.entities: 2 differ, 1 of them repaired",
        "    w/e: without a source",
    ]
    docker(tmp_path, monkeypatch, graph="")
    out.truncate(0)
    assert await drift(home, tmp_path, console, embedded=False, repair=True, json=False) == 1
    assert "graph: could not be looked at: graph says this" in out.getvalue()
    docker(tmp_path, monkeypatch)
    assert await drift(home, tmp_path, console, embedded=False, repair=True, json=True) == 0


async def test_a_rebuild_is_run_by_the_worker_of_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console, home = Console(file=out, width=200), Home(tmp_path)
    assert await rebuild(home, tmp_path, console, "publish", "items", embedded=False) == 2
    assert "There is neither" in out.getvalue()
    home.passwords(["kgl_publish"])
    assert await rebuild(home, tmp_path, console, "publish", "items", embedded=False) == 2
    assert "needs a system at work" in out.getvalue()
    docker(tmp_path, monkeypatch)
    assert await rebuild(home, tmp_path, console, "publish", "items", embedded=False) == 3
    assert await rebuild(home, tmp_path, console, "nobody", "items", embedded=False) == 2
