"""The loop that deletes results which no request names: whoever gave them came too late, or a crash came before."""

from datetime import timedelta
from functools import partial

from loguru import logger

from kgl_graph.db import requests
from kgl_graph.domain.results import FOLDER, workspace_of_key
from kgl_servicekit.database.engine import Database
from kgl_servicekit.objects.orphans import Orphans
from kgl_servicekit.objects.port import ObjectStore
from kgl_servicekit.waiting import repeat


async def collect_results(database: Database, objects: ObjectStore, age: timedelta, every: float) -> None:
    """Compare the store with the requests every so many seconds, until cancelled."""
    await repeat(partial(collect_once, database, objects, age), every, postponed="collector.paused", first=every)


async def collect_once(database: Database, objects: ObjectStore, age: timedelta) -> int:
    """Delete the results older than `age` that no request names; how many went."""
    gone = 0
    orphans = Orphans(
        objects=objects,
        database=database,
        folder=FOLDER,
        workspace_of=workspace_of_key,
        unknown=requests.unknown_results,
        age=age,
    )
    async for found in orphans.find():
        for entry in found:
            await objects.delete(entry.key)
        gone += len(found)
    if gone:
        logger.bind(objects=gone).info("collector.deleted")
    return gone
