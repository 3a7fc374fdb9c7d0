"""What has to be so before the stack is started; each failure says how to mend it."""

import json
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from kgl_cli.stack import docker
from kgl_cli.stack.docker import DockerFailed

_COMPOSE = (2, 20)
_MEMORY = 4 * 1024**3
_DISK = 8 * 1024**3


def failures(folder: Path, *, port: int, project: str, first: bool) -> list[str]:
    """What is wrong, and its cure; nothing when the stack can be started. It is the `first` start without .env."""
    try:
        engine = json.loads(docker.ask("info", "--format", "{{json .}}"))
        if errors := engine.get("ServerErrors"):
            raise DockerFailed(errors[0])
    except DockerFailed as failed:
        return [f"No Docker engine answers ({failed}). Start Docker; on Linux your user has to be in the group docker."]
    checks: list[Callable[[], str | None]] = [
        _compose,
        lambda: _memory(int(engine["MemTotal"])),
        lambda: _disk(Path(engine["DockerRootDir"]), folder),
        lambda: _volumes(project) if first else None,
        lambda: _port(port, project),
    ]
    return [told for check in checks if (told := check()) is not None]


def _compose() -> str | None:
    cure = "Install Docker Compose 2.20 or newer (the plugin behind `docker compose`)."
    try:
        version = docker.ask("compose", "version", "--short")
    except DockerFailed as failed:
        return f"`docker compose` is not there ({failed}). {cure}"
    found = re.match(r"v?(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < _COMPOSE:
        return f"Docker Compose is {version}. {cure}"
    return None


def _memory(total: int) -> str | None:
    if total >= _MEMORY:
        return None
    return (
        f"Docker has {total / 1024**3:.1f} GiB of memory and the stack needs 4. Give it more (Docker Desktop: "
        "Settings, Resources), or use `make dev`, which needs half a GiB and no Docker."
    )


def _disk(root: Path, folder: Path) -> str | None:
    place = root if root.exists() else folder  # the engine of Docker Desktop keeps its files in a machine of its own
    free = shutil.disk_usage(place).free
    if free >= _DISK:
        return None
    return (
        f"{free / 1024**3:.1f} GiB are free at {place}, 8 are needed. Make room: `docker system df` shows what can go."
    )


def _volumes(project: str) -> str | None:
    kept = docker.ask("volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={project}").split()
    if not kept:
        return None
    return (
        f"There are volumes of an earlier system ({', '.join(kept)}) and no .env with its passwords. Put the .env "
        "back, or remove the volumes with all that is in them: `make reset`."
    )


def _port(port: int, project: str) -> str | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            ours = docker.ask(
                "ps",
                "--quiet",
                "--filter",
                f"label=com.docker.compose.project={project}",
                "--filter",
                f"publish={port}",
            )
            if ours:
                return None
            cure = "Stop what listens there (a `make dev`?), or choose another: `KGL_PORT=8081 make up`."
            return f"Port {port} is taken. {cure}"
    return None
