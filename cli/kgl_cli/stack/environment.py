"""The file `.env`: what docker compose fills the compose files with. Secrets are drawn once and never changed."""

import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from kgl_servicekit.identity.credential import ApiKey

_LINE = re.compile(r"^([A-Z][A-Z0-9_]*)=(.*)$")
_HEAD = """\
# Made by `make up`. The passwords in here belong to the volumes of this system: keep both or neither.
# .env.example tells of all settings; what is changed here counts from the next `make up`.
"""
_PORTS = ("KGL_KAFKA_HOST_PORT", "KGL_PROMETHEUS_PORT", "KGL_MAIL_PORT", "KGL_GRAFANA_PORT")
_SERVICES = ("AUTH", "INGEST", "GRAPH", "CONTENT", "PUBLISH")


def _password() -> str:
    return secrets.token_hex(24)


SECRETS: Mapping[str, Callable[[], str]] = {
    "KGL_POSTGRES_PASSWORD": _password,
    **{f"KGL_DB_{name}_PASSWORD": _password for name in _SERVICES},
    **{f"KGL_DB_{name}_OWNER_PASSWORD": _password for name in (*_SERVICES, "KEYCLOAK")},
    "KGL_KAFKA_ADMIN_PASSWORD": _password,
    **{f"KGL_KAFKA_PASSWORD_{name}": _password for name in _SERVICES},
    "KGL_S3_ADMIN_PASSWORD": _password,
    **{f"KGL_S3_SECRET_KEY_{name}": _password for name in ("INGEST", "GRAPH", "CONTENT")},
    "KGL_WEAVIATE_API_KEY": _password,
    "KGL_KEYCLOAK_ADMIN_PASSWORD": _password,
    "KGL_KEYCLOAK_CLIENT_SECRET": _password,
    "KGL_GRAFANA_PASSWORD": _password,
    "KGL_OWNER_PASSWORD": _password,
    "KGL_OWNER_API_KEY": lambda: ApiKey.generate().text,
    "KGL_READER_API_KEY": lambda: ApiKey.generate().text,
}


def file_of(folder: Path) -> Path:
    """`.env` in the folder, or the file that KGL_ENV_FILE names: for one more system on the same machine."""
    return Path(os.environ.get("KGL_ENV_FILE") or folder / ".env").absolute()


def read(path: Path) -> dict[str, str]:
    """The settings in the file; none when it is not there."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {found[1]: found[2] for line in lines if (found := _LINE.match(line))}


def _defaults(port: int) -> dict[str, str]:
    """What a first `.env` says besides secrets: a system for development on this machine alone."""
    return {
        "COMPOSE_FILE": "docker-compose.yml:docker-compose.dev.yml",
        "KGL_ENV": "development",
        "KGL_PORT": str(port),
        "KGL_PUBLIC_URL": f"http://localhost:{port}",
        "KGL_EGRESS_ALLOW": "host.docker.internal:8099",
        "KGL_OPEN_REGISTRATION": "true",
        "KGL_KAFKA_ADMIN_SCRAM": "true",
    }


def complete(path: Path) -> dict[str, str]:
    """The settings, with every secret that was missing drawn and kept. A first file is made for development.

    The environment decides over the port, the URL and the compose files of a first file.
    """
    known = read(path)
    added = {} if known else {**_defaults(port_of(known)), **_given()}
    added |= {name: draw() for name, draw in SECRETS.items() if not known.get(name)}
    if added:
        _append(path, added)
    return {**known, **added}


def _given() -> dict[str, str]:
    names = ("COMPOSE_FILE", "KGL_PUBLIC_URL", "KGL_ENV", "KGL_PROJECT", "KGL_VERSION", *_PORTS)
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _append(path: Path, added: Mapping[str, str]) -> None:
    before = path.read_text() if path.exists() else _HEAD
    partial = path.with_name(f"{path.name}.new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(before.rstrip("\n") + "\n" + "".join(f"{name}={value}\n" for name, value in added.items()))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def public_url(settings: Mapping[str, str]) -> str:
    """Where the system is reached."""
    return settings.get("KGL_PUBLIC_URL") or f"http://localhost:{port_of(settings)}"


def port_of(settings: Mapping[str, str]) -> int:
    """The port of this machine that the edge is published on; before there are settings, the environment says."""
    return int(settings.get("KGL_PORT") or os.environ.get("KGL_PORT") or 8080)
