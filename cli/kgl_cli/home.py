"""KGL_HOME: where an embedded system keeps everything, from one start to the next.

postgres/           the databases
objects/            the files
secrets.json        passwords of the database roles (0600)
keys.json           API keys of the first owner and of the built-in reader (0600)
credentials.json    first owner, workspace and API key, by public URL (0600)
run.json            pid, port and URL of a running `kgl dev`
dev.lock            held by a `kgl dev`, server.lock by whatever uses the databases (`locks.py`)
port                the port of the public URL, which issuer and cookies are bound to
"""

import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from kgl_cli import flock
from kgl_servicekit.identity.credential import ApiKey


class HomeRefused(Exception):
    """The folder cannot be used; the sentence says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The first login of a system, and the key that scripts use."""

    url: str
    email: str
    password: str
    workspace_id: str
    workspace: str
    api_key: str
    module_key: str
    callback_host: str = "127.0.0.1"  # how the system calls this machine, for webhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A running `kgl dev`."""

    pid: int
    port: int
    url: str


@dataclass(frozen=True, slots=True)
class Home:
    """One KGL_HOME."""

    path: Path

    @classmethod
    def from_environment(cls) -> "Home":
        """`$KGL_HOME`, or `.kgl` in the working directory; raises HomeRefused."""
        home = cls(Path(os.environ.get("KGL_HOME", ".kgl")).absolute())
        home.check()
        home.path.mkdir(parents=True, exist_ok=True)
        return home

    def check(self) -> None:
        """As root, Postgres runs as a user of its own that has to reach its data: never inside a home."""
        if os.name != "posix" or os.geteuid() != 0:
            return
        private = Path.home().resolve()
        if private != Path("/") and self.path.resolve().is_relative_to(private):
            raise HomeRefused(
                f"As root, Postgres runs as a user of its own and cannot reach {self.path}. "
                "Set KGL_HOME to a folder outside of root's home, such as KGL_HOME=/var/lib/kgl."
            )

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def objects(self) -> Path:
        return self.path / "objects"

    def has_system(self) -> bool:
        """Whether an embedded system was made here."""
        return (self.path / "secrets.json").exists()

    def running(self) -> Running | None:
        """The `kgl dev` that is ready on this home, if one is, however busy."""
        if self.dev() is None:
            return None
        found = _read(self.path / "run.json")
        return None if found is None else Running(**found)

    def dev(self) -> int | None:
        """The pid of the `kgl dev` of this home, ready or not, if there is one."""
        try:
            file = (self.path / "dev.lock").open()
        except FileNotFoundError:
            return None
        with file:
            return None if flock.shared(file) else int(file.read() or 0)

    def write_running(self, running: Running) -> None:
        _write(self.path / "run.json", {"pid": running.pid, "port": running.port, "url": running.url})

    def clear_running(self) -> None:
        (self.path / "run.json").unlink(missing_ok=True)

    def port(self) -> tuple[int, bool]:
        """The port to use, and whether it differs from the last one's: then tokens issued before are void."""
        kept = _read(self.path / "port")
        if kept is not None and _is_free(kept):
            return kept, False
        port = 8080 if kept != 8080 and _is_free(8080) else free_port()
        self.keep_port(port)
        return port, kept is not None

    def keep_port(self, port: int) -> None:
        """Use this port from now on."""
        _write(self.path / "port", port)

    def passwords(self, names: list[str]) -> dict[str, str]:
        """A password for each name, made once."""
        return self._drawn("secrets.json", names, lambda: secrets.token_urlsafe(24))

    def api_keys(self, names: list[str]) -> list[ApiKey]:
        """An API key for each name, drawn once."""
        drawn = self._drawn("keys.json", names, lambda: ApiKey.generate().text)
        return [ApiKey.parse(drawn[name]) for name in names]

    def _drawn(self, file: str, names: list[str], draw: Callable[[], str]) -> dict[str, str]:
        """What the file keeps for each name, drawn and kept where it is missing."""
        known = _read(self.path / file) or {}
        missing = [name for name in names if name not in known]
        if missing:
            known |= {name: draw() for name in missing}
            _write(self.path / file, known)
        return {name: known[name] for name in names}

    def credentials(self, url: str) -> Credentials | None:
        """What was written for this public URL; API keys stay valid when only the port has changed."""
        found: dict[str, Any] = _read(self.path / "credentials.json") or {}
        entry = found.get(url)
        return None if entry is None else Credentials(url=url, **entry)

    def any_credentials(self) -> Credentials | None:
        """The credentials of this home under whatever URL they were last written."""
        found: dict[str, Any] = _read(self.path / "credentials.json") or {}
        return next((Credentials(url=url, **entry) for url, entry in reversed(found.items())), None)

    def write_credentials(self, credentials: Credentials) -> None:
        known: dict[str, Any] = _read(self.path / "credentials.json") or {}
        entry = {name: getattr(credentials, name) for name in Credentials.__slots__ if name != "url"}
        _write(self.path / "credentials.json", {**known, credentials.url: entry})


def known_system(home: Home, url: str) -> Credentials:
    """The credentials of the system at this public URL; raises HomeRefused."""
    known = home.credentials(url.rstrip("/"))
    if known is None:
        raise HomeRefused(
            f"{home.path / 'credentials.json'} knows no system at {url}; `make up` and `make dev` write it."
        )
    return known


def chosen_system(home: Home, target: str | None) -> Credentials:
    """The system at a URL, or the running `kgl dev` of this home; raises HomeRefused."""
    if target is not None:
        return known_system(home, target)
    running = home.running()
    if running is None:
        raise HomeRefused("No kgl dev runs on this KGL_HOME; start one with `make dev`, or name a system by --target.")
    return known_system(home, running.url)


def _read(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def _write(path: Path, content: Any) -> None:
    partial = path.with_name(f"{path.name}.new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
