"""What `make up` checks and writes before it starts anything. Docker is a script that answers what a test wants."""

import io
import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from kgl_cli.home import Home
from kgl_cli.refill import refill
from kgl_cli.stack import environment
from kgl_cli.stack.preflight import failures
from kgl_contracts.rights import SERVICES

Docker = Callable[..., None]
GIB = 1024**3


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    """Puts a docker on the path that answers by the first words of what it is asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def answers(
        *, memory: int = 8 * GIB, version: str = "2.40.3", volumes: str = "", ours: str = "", down: str = ""
    ) -> None:
        info = {"MemTotal": memory, "DockerRootDir": str(tmp_path)} | ({"ServerErrors": [down]} if down else {})
        (folder / "docker").write_text(
            "#!/bin/sh\n"
            f'case "$1 $2" in\n'
            f"  'info --format') echo '{json.dumps(info)}' ;;\n"
            f"  'compose version') echo {version} ;;\n"
            f"  'volume ls') echo '{volumes}' ;;\n"
            f"  'ps --quiet') echo '{ours}' ;;\n"
            "  *) echo unexpected >&2; exit 1 ;;\n"
            "esac\n"
        )
        (folder / "docker").chmod(0o755)

    return answers


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


def test_a_machine_with_all_that_is_needed_has_no_failures(docker: Docker, tmp_path: Path, port: int) -> None:
    docker()
    assert failures(tmp_path, port=port, project="kgl", first=True) == []


@pytest.mark.parametrize(
    ("answers", "told", "cure"),
    [
        ({"down": "Cannot connect to the Docker daemon"}, "No Docker engine answers", "Start Docker"),
        ({"version": "2.17.2"}, "Docker Compose is 2.17.2", "Install Docker Compose 2.20"),
        ({"version": "v2.20.0", "memory": 2 * GIB}, "Docker has 2.0 GiB of memory", "Give it more"),
        ({"volumes": "kgl_postgres"}, "volumes of an earlier system (kgl_postgres)", "make reset"),
    ],
)
def test_each_failure_is_told_with_its_cure(
    docker: Docker, tmp_path: Path, port: int, answers: dict[str, object], told: str, cure: str
) -> None:
    docker(**answers)
    (failure,) = failures(tmp_path, port=port, project="kgl", first=True)
    assert told in failure
    assert cure in failure


def test_volumes_are_expected_where_their_env_file_is(docker: Docker, tmp_path: Path, port: int) -> None:
    docker(volumes="kgl_postgres")
    assert failures(tmp_path, port=port, project="kgl", first=False) == []


def test_a_taken_port_is_told_unless_it_is_taken_by_this_very_system(docker: Docker, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        docker()
        (failure,) = failures(tmp_path, port=taken, project="kgl", first=False)
        assert f"Port {taken} is taken" in failure
        assert "KGL_PORT=" in failure
        docker(ours="3f1c")
        assert failures(tmp_path, port=taken, project="kgl", first=False) == []


def test_too_little_disk_is_told(docker: Docker, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    docker()
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": GIB})())
    (failure,) = failures(tmp_path, port=port, project="kgl", first=True)
    assert "1.0 GiB are free" in failure
    assert "docker system df" in failure


def test_without_docker_the_cure_is_told(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (failure,) = failures(tmp_path, port=port, project="kgl", first=True)
    assert "Start Docker" in failure


async def test_a_refill_runs_in_the_image_of_each_service_that_writes_the_topic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    (tmp_path / "docker").write_text(f'#!/bin/sh\necho "$@" >> {asked}\n[ "$8" != graph-worker ]\n')
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / ".env").write_text("KGL_PORT=8080\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("KGL_ENV_FILE", raising=False)
    told = Console(file=io.StringIO())
    run = f"compose --env-file {tmp_path / '.env'} run --rm --no-deps -T"
    assert await refill(Home(tmp_path), tmp_path, told, ["kgl.documents"], embedded=False) == 0
    assert asked.read_text() == f"{run} ingest-worker refill kgl.documents\n"
    asked.unlink()
    assert await refill(Home(tmp_path), tmp_path, told, [], embedded=False) == 1  # graph's fails, and others go on
    assert asked.read_text().splitlines() == [f"{run} {service}-worker refill" for service in SERVICES]


async def test_a_refill_without_a_system_or_of_no_topic_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KGL_ENV_FILE", raising=False)
    told = io.StringIO()
    assert await refill(Home(tmp_path), tmp_path, Console(file=told, width=300), [], embedded=False) == 2
    assert "There is neither" in told.getvalue()
    assert await refill(Home(tmp_path), tmp_path, Console(file=told, width=300), ["kgl.x"], embedded=False) == 2
    assert "There is no topic kgl.x" in told.getvalue()


def test_secrets_are_drawn_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    first = environment.complete(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert environment.complete(path) == environment.read(path) == first
    drawn = [first[name] for name in environment.SECRETS]
    assert len(set(drawn)) == len(drawn)
    assert min(map(len, drawn)) >= 32


def test_a_secret_that_a_newer_version_needs_is_added_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nKGL_PORT=9000\nKGL_POSTGRES_PASSWORD=old\n")
    settings = environment.complete(path)
    assert settings["KGL_POSTGRES_PASSWORD"] == "old"
    assert settings["KGL_WEAVIATE_API_KEY"]
    assert "KGL_ENV" not in settings  # who wrote a file of their own is not made a development system
    assert path.read_text().startswith("# mine\nKGL_PORT=9000\n")


def test_the_environment_chooses_the_port_of_a_first_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGL_PORT", "8090")
    settings = environment.complete(tmp_path / ".env")
    assert environment.public_url(settings) == "http://localhost:8090"
    assert environment.port_of(settings) == 8090


def test_the_compose_files_ask_for_no_secret_that_is_not_drawn() -> None:
    root = Path(__file__).parents[2]
    text = "".join((root / name).read_text() for name in ("docker-compose.yml", "docker-compose.dev.yml"))
    asked = {part.partition(":?")[0] for part in text.split("${")[1:] if ":?" in part.partition("}")[0]}
    assert asked <= set(environment.SECRETS)
