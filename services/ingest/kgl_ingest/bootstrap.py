"""The composition root of ingest: the only place that builds its stores and clients."""

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from kgl_ingest.api import dead_letters, documents, limits, operations
from kgl_ingest.collector import BlobCollector
from kgl_ingest.consumers import dead_letters as letters
from kgl_ingest.consumers import snapshots
from kgl_ingest.consumers.operations import ingest_operations
from kgl_ingest.drift import drift_checks
from kgl_ingest.jobs import erase_document, parse_document, snapshot_documents
from kgl_ingest.jobs.declared import jobs
from kgl_ingest.jobs.outside import Outside
from kgl_ingest.parsing.sandbox import ParserSandbox
from kgl_ingest.settings import IngestSettings
from kgl_ingest.trimming import forget_letters, forget_receipts
from kgl_ingest.unfinished import examine_operations, watch_unfinished
from kgl_servicekit.bus.port import Bus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.objects.choose import objects_of, opened
from kgl_servicekit.service import Service

MIGRATIONS = Path(__file__).parent.parent / "migrations"
EVENT_HANDLERS = (snapshots.on_snapshot_requested, letters.on_dead_letter_noted, letters.on_dead_letter_moved)
JOB_HANDLERS = (
    parse_document.parse_document,
    erase_document.erase_document,
    snapshot_documents.snapshot_documents,
)


def build(settings: IngestSettings, bus: Bus) -> Service:
    """The ingest service with the stores that its settings name; raises NotConfigured without an object store."""
    objects = objects_of(settings)
    parsers = ParserSandbox(children=settings.parser_processes)
    database = Database(settings.database_url.get_secret_value(), service="ingest", pool_size=settings.pool_size)
    collector = BlobCollector(database, objects, timedelta(seconds=settings.collect_after))

    def collect() -> Coroutine[Any, Any, None]:
        return collector.run(settings.collect_every, settings.compare_every)

    @asynccontextmanager
    async def parser_processes() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await parsers.close()  # only workers parse, and they end before or without the API

    return Service(
        name="ingest",
        settings=settings,
        database=database,
        bus=bus,
        migrations=MIGRATIONS,
        routers=[
            ("/ingest/v1", documents.router),
            ("/ingest/v1", limits.router),
            ("/operations/v1", operations.router),
            ("/dead-letters/v1", dead_letters.router),
        ],
        subscriptions=[ingest_operations],
        jobs=jobs,
        outside=Outside(objects=objects, parsers=parsers, parser_timeout=settings.parser_timeout),
        examinations={"operations": examine_operations},
        drift_checks=drift_checks(database, objects, settings),
        checks={"objects": objects.ping},
        resources=[partial(opened, objects), parser_processes],
        loops=[
            collect,
            partial(forget_letters, database),
            partial(forget_receipts, database, settings.receipt_days),
            partial(watch_unfinished, database),
        ],
    )
