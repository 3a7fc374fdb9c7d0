"""The composition root of graph: the only place that builds its stores and clients."""

from collections.abc import Coroutine
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from kgl_graph.api import graph, modules, results, search
from kgl_graph.collector import collect_results
from kgl_graph.consumers.ai import graph_ai
from kgl_graph.consumers.documents import graph_documents
from kgl_graph.consumers.modules import module_subscriptions
from kgl_graph.drift import drift_checks
from kgl_graph.jobs import embed_chunks, index_document, link_document, take_given
from kgl_graph.jobs.declared import jobs
from kgl_graph.jobs.outside import Outside
from kgl_graph.rebuilds.links import TABLES as LINKS
from kgl_graph.rebuilds.links import LinksAnew
from kgl_graph.rebuilds.search import search as search_index
from kgl_graph.settings import GraphSettings
from kgl_graph.stores.choose_vectors import vectors_of
from kgl_graph.stores.embedder import WordLlamaEmbedder
from kgl_graph.sweeper import sweep_requests
from kgl_servicekit.bus.port import Bus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.events.rebuild import InPlace
from kgl_servicekit.objects.choose import objects_of, opened
from kgl_servicekit.service import Service

MIGRATIONS = Path(__file__).parent.parent / "migrations"
JOB_HANDLERS = (
    index_document.index_document,
    index_document.forget_vectors,
    embed_chunks.embed_chunks,
    link_document.link_document,
    take_given.take_given,
)


def build(settings: GraphSettings, bus: Bus) -> Service:
    """The graph service with the stores that its settings name; raises NotConfigured for those that do not fit."""
    database = Database(settings.database_url.get_secret_value(), service="graph", pool_size=settings.pool_size)
    objects = objects_of(settings)
    vectors = vectors_of(settings, database)

    def sweeper() -> Coroutine[Any, Any, None]:
        return sweep_requests(database, settings.request_sweep_seconds)

    def collector() -> Coroutine[Any, Any, None]:
        return collect_results(database, objects, timedelta(seconds=settings.collect_after), settings.collect_every)

    return Service(
        name="graph",
        settings=settings,
        database=database,
        bus=bus,
        migrations=MIGRATIONS,
        branches=vectors.branches,
        routers=[
            ("/graph/v1", graph.router),
            ("/graph/v1", search.router),
            ("/modules/v1", modules.router),
            ("/modules/v1", results.router),
        ],
        subscriptions=[graph_documents, graph_ai, *module_subscriptions(settings.kafka_module_names)],
        jobs=jobs,
        outside=Outside(objects=objects, embedder=WordLlamaEmbedder(), vectors=vectors.index),
        checks={"objects": objects.ping, **dict(vectors.checks)},
        resources=[partial(opened, objects), *vectors.resources],
        loops=[sweeper, collector, *vectors.loops],
        rebuilds=[search_index],
        rebuilds_in_place=[InPlace(name="links", tables=LINKS, run=LinksAnew(database, objects).run)],
        drift_checks=drift_checks(database, bus, objects, vectors.index, settings),
    )
