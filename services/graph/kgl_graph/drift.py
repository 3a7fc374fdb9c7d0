"""What is compared in graph to find drift."""

from datetime import timedelta

from kgl_graph.db import drift, requests
from kgl_graph.domain.results import FOLDER, workspace_of_key
from kgl_graph.rebuilds.search import search
from kgl_graph.settings import GraphSettings
from kgl_graph.stores.vector_drift import VectorCheck
from kgl_graph.stores.vectors import VectorIndex
from kgl_graph.use_cases.mend_graph import (
    compare_told,
    mend_documents,
    mend_told,
    remove_entities,
    remove_relations,
)
from kgl_servicekit.bus.port import Bus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.drift.check import DriftCheck
from kgl_servicekit.drift.objects import OrphanCheck
from kgl_servicekit.drift.rows import RowCheck
from kgl_servicekit.drift.snapshots import SnapshotCheck
from kgl_servicekit.objects.orphans import Orphans
from kgl_servicekit.objects.port import ObjectStore

_BY_HAND = "kgl drift --repair; where no result is left to link again, delete the document, and upload it anew"


def drift_checks(
    database: Database, bus: Bus, objects: ObjectStore, vectors: VectorIndex, settings: GraphSettings
) -> list[DriftCheck]:
    """All of graph's.

    Documents with what ingest tells, vectors with chunks, what modules said with documents, entities and relations,
    results with the requests that name them.
    """
    orphans = Orphans(
        objects=objects,
        database=database,
        folder=FOLDER,
        workspace_of=workspace_of_key,
        unknown=requests.unknown_results,
        age=timedelta(seconds=settings.collect_after + 2 * settings.collect_every),
    )
    return [
        SnapshotCheck(
            name="graph.documents",
            database=database,
            bus=bus,
            rebuild=search,
            compare=compare_told,
            here=drift.known_documents,
            mend=mend_told,
        ),
        VectorCheck(database, vectors),
        RowCheck(
            name="graph.mentions",
            database=database,
            table="mention",
            key="document_id",
            state=drift.DOCUMENT_OF_MENTIONS,
            mend=mend_documents,
            by_hand=dict.fromkeys(drift.SAID_WRONG, _BY_HAND),
        ),
        RowCheck(
            name="graph.sources",
            database=database,
            table="entity_source",
            key="document_id",
            state=drift.DOCUMENT_OF_SOURCES,
            mend=mend_documents,
            by_hand=dict.fromkeys(drift.SAID_WRONG, _BY_HAND),
        ),
        RowCheck(
            name="graph.entities",
            database=database,
            table="entity",
            key="id",
            state=drift.ENTITY,
            mend=remove_entities,
        ),
        RowCheck(
            name="graph.relations",
            database=database,
            table="relation",
            key="id",
            state=drift.RELATION,
            mend=remove_relations,
        ),
        OrphanCheck("graph.results", orphans),
    ]
