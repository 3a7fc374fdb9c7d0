"""`kgl doctor`: what is wrong with a system and what to do about it, also while some of it is down."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import orjson
from rich.console import Console

from kgl_cli.home import Home, HomeRefused
from kgl_cli.postgres import Databases
from kgl_cli.stack.docker import Compose, DockerFailed, containers
from kgl_cli.system import BUILDERS
from kgl_cli.where import NoSystem, NotAnswered, compose_of, databases_of, service_of, told_by
from kgl_contracts.rights import SERVICES
from kgl_servicekit.doctor.examine import examine
from kgl_servicekit.doctor.finding import Finding
from kgl_servicekit.drift.run import look_now

SYSTEM = "system"
"""What findings name that are about no single service."""


async def doctor(home: Home, folder: Path, console: Console, *, embedded: bool, json: bool, drift: bool = False) -> int:
    """Ask every service of the compose system of the folder, or of the embedded one; 0 when all is well, 1 else.

    With `drift` each looks for drift before; without, it tells of the last look.
    """
    try:
        compose = compose_of(home, folder, embedded=embedded)
    except NoSystem as none:
        console.print(f"[red]{none}[/red]")
        return 2
    found = await (_embedded(home, drift) if compose is None else asyncio.to_thread(_compose, compose, drift))
    if json:
        console.out(orjson.dumps([finding.as_dict() for finding in found]).decode(), highlight=False)
    else:
        _print(console, found)
    return 1 if found else 0


def _print(console: Console, found: Sequence[Finding]) -> None:
    for finding in found:
        console.out(f"{finding.service}: {finding.what}", highlight=False)
        console.out(f"    to do: {finding.todo}", highlight=False)
    console.out(f"{len(found)} findings" if found else f"all is well: {', '.join(SERVICES)}", highlight=False)


def _system(check: str, what: str, todo: str, service: str = SYSTEM) -> Finding:
    return Finding(service=service, check=check, what=what, todo=todo)


def _compose(compose: Compose, drift: bool) -> list[Finding]:
    """The containers as Docker sees them; then each service, in a container of its own with its worker's settings."""
    try:
        there = containers(compose)
    except DockerFailed as failed:
        return [_system("containers", f"Docker cannot be asked: {failed}", "start Docker; then make ps")]
    if not there:
        return [_system("containers", "no container of the system is there", "make up")]
    found = [
        _system(
            "containers",
            f"{each.service} is {each.health or each.state}",
            f"make logs SERVICE={each.service}; then make up",
            each.service,
        )
        for each in there
        if each.failed
    ]
    for service in SERVICES:
        found += _in_container(compose, service, drift)
    return found


def _in_container(compose: Compose, service: str, drift: bool) -> list[Finding]:
    words = ["doctor", "--json", *(["--drift"] if drift else [])]
    try:
        return told_by(compose, service, *words, of=Finding, seconds=3600 if drift else 120)
    except NotAnswered as silent:
        what = f"{service} cannot be asked: {silent}"
        return [_system("service", what, f"make logs SERVICE={service}-worker", service)]


async def _embedded(home: Home, drift: bool) -> list[Finding]:
    """On the databases of this home, whether `kgl dev` runs or not; while one starts, that is all there is to say."""
    found = [] if home.running() else [_system("process", "no kgl dev runs on this KGL_HOME", "make dev")]
    async with AsyncExitStack() as stack:
        try:
            databases = await stack.enter_async_context(databases_of(home))
        except HomeRefused as refused:
            return [_system("process", str(refused), "wait until kgl dev says that it is ready")]
        except Exception as error:  # a server that does not start tells so in many ways
            what = f"the databases cannot be opened: {error}"
            return [*found, _system("database", what, f"look at {home.postgres}/log, or at KGL_POSTGRES_URL")]
        for each in await asyncio.gather(*(_one(home, databases, name, drift) for name in BUILDERS)):
            found += each
    return found


async def _one(home: Home, databases: Databases, name: str, drift: bool) -> list[Finding]:
    service = service_of(home, databases, name, "doctor")
    if drift:
        with suppress(Exception):  # what keeps it from looking is found below
            await look_now(service)
    return await examine(service)
