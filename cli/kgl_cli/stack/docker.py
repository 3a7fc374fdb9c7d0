"""docker and docker compose, as child processes."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class DockerFailed(Exception):
    """A command failed; the sentence is what it said last."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container of the project: the service's name, its state, health, and status of its end."""

    name: str
    service: str
    state: str
    health: str
    exit_code: int

    @property
    def failed(self) -> bool:
        """Whether it is not as it should be after a start."""
        return (
            self.health == "unhealthy" or (self.state == "exited" and self.exit_code != 0) or self.state == "restarting"
        )


def ask(*arguments: str) -> str:
    """What a short command answers; raises DockerFailed."""
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError as missing:
        raise DockerFailed("the command `docker` is not there") from missing
    except subprocess.TimeoutExpired as slow:
        raise DockerFailed(f"docker {arguments[0]} did not answer in 60 s") from slow
    if done.returncode != 0:
        raise DockerFailed(
            done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"docker {arguments[0]} failed"
        )
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Compose:
    """docker compose in the working directory, with the settings of one file."""

    env_file: Path

    def run(self, *arguments: str) -> int:
        """Run it and show what it says; its status."""
        return subprocess.run(["docker", "compose", *self._file(), *arguments], check=False).returncode

    def ask(self, *arguments: str) -> str:
        """What it answers; raises DockerFailed."""
        return ask("compose", *self._file(), *arguments)

    def tried(self, *arguments: str, seconds: float = 120.0) -> tuple[int, str, str]:
        """Run it; its status and what it wrote on standard output and on standard error."""
        try:
            done = subprocess.run(
                ["docker", "compose", *self._file(), *arguments],
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return 1, "", f"it did not answer in {seconds:.0f} s"
        return done.returncode, done.stdout, done.stderr

    def _file(self) -> tuple[str, ...]:
        return ("--env-file", str(self.env_file)) if self.env_file.exists() else ()


def containers(compose: Compose) -> list[Container]:
    """All containers of the project, those that ended too."""
    lines = compose.ask("ps", "--all", "--format", "json").splitlines()
    found: Sequence[dict[str, Any]] = [json.loads(line) for line in lines if line]
    return [
        Container(row["Name"], row["Service"], row["State"], row.get("Health", ""), int(row.get("ExitCode", 0)))
        for row in found
    ]


def last_words(container: Container, lines: int = 15) -> str:
    """The end of a container's log."""
    done = subprocess.run(
        ["docker", "logs", "--tail", str(lines), container.name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout.strip()
