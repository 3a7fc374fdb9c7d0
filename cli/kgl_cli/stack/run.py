"""`kgl up`, `kgl scale` and `kgl reset`."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from kgl_cli.home import Credentials, Home
from kgl_cli.stack import docker, environment
from kgl_cli.stack.docker import Compose, DockerFailed
from kgl_cli.stack.preflight import failures
from kgl_client.api import Api

_WAIT = "300"
_SCALED = ("auth", "ingest", "graph", "content", "publish")


def project_of(settings: Mapping[str, str]) -> str:
    """The name of the compose project."""
    return os.environ.get("KGL_PROJECT") or settings.get("KGL_PROJECT") or "kgl"


async def up(home: Home, folder: Path, console: Console, *, build: bool) -> int:
    """Check, build, start, wait, and print where everything is; 0 when all is healthy."""
    path = environment.file_of(folder)
    compose = Compose(path)
    known = environment.read(path)
    port = environment.port_of(known)
    wrong = failures(folder, port=port, project=project_of(known), first=not known)
    for each in wrong:
        console.print(f"[red]{each}[/red]")
    if wrong:
        return 1
    settings = environment.complete(path)
    if build and compose.run("build", "--quiet") != 0:
        console.print("[red]The images could not be built; what failed stands above.[/red]")
        return 1
    begun = time.monotonic()
    if compose.run("up", "--detach", "--wait", "--wait-timeout", _WAIT, "--remove-orphans") != 0:
        _tell_failed(compose, console)
        return 1
    credentials = await _credentials(settings)
    home.write_credentials(credentials)
    console.print(f"healthy after {time.monotonic() - begun:.0f} s")
    _tell(console, home, settings, credentials)
    return 0


def _tell_failed(compose: Compose, console: Console) -> None:
    try:
        failed = [container for container in docker.containers(compose) if container.failed]
    except DockerFailed as unknown:
        console.print(f"[red]{unknown}[/red]")
        return
    for container in failed:
        console.print(f"[red]{container.service} is {container.health or container.state}:[/red]")
        console.print(docker.last_words(container), markup=False, highlight=False)
    console.print("`make logs SERVICE=<name>` shows more; `make ps` shows all.")


async def _credentials(settings: Mapping[str, str]) -> Credentials:
    url, key = environment.public_url(settings), settings["KGL_OWNER_API_KEY"]
    async with Api(url, key) as api:
        (workspace,) = (await api.get("/auth/v1/me"))["workspaces"]
    return Credentials(
        url=url,
        email=settings.get("KGL_OWNER_EMAIL") or "owner@kgl.localhost",
        password=settings["KGL_OWNER_PASSWORD"],
        workspace_id=workspace["id"],
        workspace=workspace["slug"],
        api_key=key,
        module_key=settings["KGL_READER_API_KEY"],
        callback_host="host.docker.internal",
    )


def _tell(console: Console, home: Home, settings: Mapping[str, str], credentials: Credentials) -> None:
    url = credentials.url
    console.print(f"  URL        {url}")
    console.print(f"  APIs       {url}/docs")
    console.print(f"  log in     {url}/auth/v1/login")
    console.print(f"  e-mail     {credentials.email}")
    console.print(f"  password   {credentials.password}")
    console.print(f"  workspace  {credentials.workspace}")
    console.print(f"  API key    in {home.path / 'credentials.json'}")
    if "docker-compose.dev.yml" in settings.get("COMPOSE_FILE", ""):
        prometheus, mail = settings.get("KGL_PROMETHEUS_PORT") or 9090, settings.get("KGL_MAIL_PORT") or 8025
        console.print(f"  Prometheus http://localhost:{prometheus}")
        console.print(f"  mail       http://localhost:{mail}")
        if "observability" in (os.environ.get("COMPOSE_PROFILES") or settings.get("COMPOSE_PROFILES", "")):
            grafana = settings.get("KGL_GRAFANA_PORT") or 3000
            console.print(f"  Grafana    http://localhost:{grafana} (admin, KGL_GRAFANA_PASSWORD of .env)")
        console.print(f"  Kafka      localhost:{settings.get('KGL_KAFKA_HOST_PORT') or 9094} (SASL)")
    console.print("`make demo TARGET=" + url + "` runs the main job on it; `make down` stops it and keeps the data.")


def scale(service: str, api: int, workers: int, console: Console) -> int:
    """Run so many processes of a service; 0 when all are healthy."""
    if service not in _SCALED:
        console.print(f"[red]SERVICE is one of {', '.join(_SCALED)}.[/red]")
        return 2
    return Compose(environment.file_of(Path.cwd())).run(
        *("up", "--detach", "--wait", "--wait-timeout", _WAIT, "--no-recreate"),
        *("--scale", f"{service}-api={api}", "--scale", f"{service}-worker={workers}"),
        *(f"{service}-api", f"{service}-worker"),
    )


def reset(folder: Path, console: Console, *, confirmed: bool) -> int:
    """Remove the containers, the volumes with all data, and .env; asks first."""
    path = environment.file_of(folder)
    settings = environment.read(path)
    project = project_of(settings)
    if not confirmed and console.input(f"Remove all data of {project}, for good? Type its name to go on: ") != project:
        console.print("Nothing was removed.")
        return 1
    status = Compose(path).run("down", "--volumes", "--remove-orphans") if settings else 0
    for volume in docker.ask("volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={project}").split():
        docker.ask("volume", "rm", volume)
    path.unlink(missing_ok=True)
    return status
