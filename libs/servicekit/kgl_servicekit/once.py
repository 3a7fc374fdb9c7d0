"""What operators ask of a service by command, once: the answer is the exit status, 0 without one."""

import argparse
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
from loguru import logger

from kgl_servicekit.database.connection import LOST, told_lost
from kgl_servicekit.database.migrations import migrate
from kgl_servicekit.doctor.examine import examine
from kgl_servicekit.drift.run import look_now
from kgl_servicekit.events.rebuild import RebuildIncomplete, RebuildLost, RebuildRunning
from kgl_servicekit.settings import NotConfigured

if TYPE_CHECKING:
    from kgl_servicekit.service import Service


async def migrate_database(service: "Service") -> None:
    """Bring the service's database to the newest revision, as its owner."""
    owner = service.settings.database_owner_url
    if owner is None:
        raise NotConfigured("set KGL_DATABASE_OWNER_URL (or KGL_DATABASE_OWNER_URL_FILE) to the owner's role")
    try:
        await migrate(service.migrations, owner.get_secret_value(), service.branches)
    except asyncpg.InvalidAuthorizationSpecificationError as refused:
        raise NotConfigured(f"KGL_DATABASE_OWNER_URL is refused: {refused}") from refused
    except LOST as lost:
        raise NotConfigured(told_lost("KGL_DATABASE_OWNER_URL", lost)) from lost
    logger.info("database.migrated")


async def rebuild(service: "Service", asked: argparse.Namespace) -> None:
    """Build derived tables anew."""
    names = service.rebuild_names
    if len(asked.names) != 1 or asked.names[0] not in names:
        raise NotConfigured(f"name what to rebuild: {service.name} has {', '.join(names) or 'nothing to rebuild'}")
    (name,) = asked.names
    try:
        rebuilt = await service.rebuild(name)
    except (RebuildRunning, RebuildLost, RebuildIncomplete) as refused:
        raise NotConfigured(str(refused)) from refused
    logger.bind(rebuild=name, generation=rebuilt.generation, keys=rebuilt.keys).info("rebuild.done")


async def refill(service: "Service", asked: argparse.Namespace) -> None:
    """Send events again that the bus has lost."""
    refilled = await service.refill(asked.names)
    logger.bind(topics=refilled.topics, events=refilled.events).info("refill.done")


async def release(service: "Service", asked: argparse.Namespace) -> None:
    """Let a key go on whose event the bus had refused."""
    if len(asked.names) != 2:
        raise NotConfigured("name the topic and the key, such as kgl.documents 0198f3a0-...; `doctor` tells both")
    topic, key = asked.names
    if not await service.release(topic, key):
        raise NotConfigured(f"no event of key {key} on {topic} is refused")
    logger.bind(topic=topic, key=key).info("outbox.released")


async def doctor(service: "Service", asked: argparse.Namespace) -> int:
    """What is wrong, on standard output; 1 when anything is."""
    if asked.drift and service.drift_checks:
        with suppress(Exception):  # what keeps it from looking is found below
            await look_now(service)
    found = await examine(service)
    if asked.json:
        sys.stdout.write(orjson.dumps([finding.as_dict() for finding in found]).decode() + "\n")
    else:
        lines = [f"{finding.check}: {finding.what}\n  {finding.todo}" for finding in found]
        sys.stdout.write("\n".join(lines or ["all is well"]) + "\n")
    sys.stdout.flush()
    return 1 if found else 0


async def drift(service: "Service", asked: argparse.Namespace) -> int:
    """What differs from its source, on standard output; 1 when something is left."""
    results = await look_now(service, repair=asked.repair)
    if asked.json:
        sys.stdout.write(orjson.dumps([result.as_dict() for result in results]).decode() + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for result in results for line in result.lines()))
    sys.stdout.flush()
    return 0 if all(result.well for result in results) else 1


ONCE: Mapping[str, Callable[["Service", argparse.Namespace], Coroutine[Any, Any, int | None]]] = {
    "rebuild": rebuild,
    "refill": refill,
    "release": release,
    "doctor": doctor,
    "drift": drift,
}
