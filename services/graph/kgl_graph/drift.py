"""What is compared in graph to find drift."""

from datetime import timedelta

from kgl_graph.db import drift, requests
from kgl_graph.domain.results import FOLDER, workspace_of_key
from kgl_graph.settings import GraphSettings
from kgl_graph.use_cases.mend_graph import mend_documents, remove_entities, remove_relations
from kgl_servicekit.database.engine import Database
from kgl_servicekit.drift.check import DriftCheck
from kgl_servicekit.drift.objects import OrphanCheck
from kgl_servicekit.drift.rows import RowCheck
from kgl_servicekit.objects.orphans import Orphans
from kgl_servicekit.objects.port import ObjectStore


def drift_checks(database: Database, objects: ObjectStore, settings: GraphSettings) -> list[DriftCheck]:
    """Mentions, sources, entities and relations against each other; results against the requests that name them."""
    orphans = Orphans(
        objects=objects,
        database=database,
        folder=FOLDER,
        workspace_of=workspace_of_key,
        unknown=requests.unknown_results,
        age=timedelta(seconds=settings.collect_after + 2 * settings.collect_every),
    )
    return [
        RowCheck(
            name="graph.mentions",
            database=database,
            table="mention",
            key="document_id",
            state=drift.DOCUMENT_OF_MENTIONS,
            mend=mend_documents,
        ),
        RowCheck(
            name="graph.sources",
            database=database,
            table="entity_source",
            key="document_id",
            state=drift.DOCUMENT_OF_SOURCES,
            mend=mend_documents,
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
