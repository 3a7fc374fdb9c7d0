"""Events of the knowledge graph, emitted by the graph service. They carry ids, never document text."""

from uuid import UUID

from pydantic import Field

from kgl_contracts.event import EventData, with_example
from kgl_contracts.topics import GRAPH
from kgl_contracts.values import Predicate, TypeName

_DOCUMENT = "0198f3a0-0000-7000-8000-000000000001"
_ENTITY = "0198f3a0-0000-5000-8000-000000000003"


class DocumentIndexed(EventData, type="graph.document.indexed.v1", topic=GRAPH, key="document_id"):
    """The chunks of a document version can be found by search."""

    model_config = with_example(document_id=_DOCUMENT, version=1, chunk_count=7)

    document_id: UUID
    version: int = Field(ge=1)
    chunk_count: int = Field(ge=0)


class DocumentLinked(EventData, type="graph.document.linked.v1", topic=GRAPH, key="document_id"):
    """What a module found in a document version is part of the graph."""

    model_config = with_example(
        document_id=_DOCUMENT, version=1, module="reader", entities=12, relations=3, mentions=40
    )

    document_id: UUID
    version: int = Field(ge=1)
    module: str
    entities: int = Field(ge=0)
    relations: int = Field(ge=0)
    mentions: int = Field(ge=0)


class EntityCreated(EventData, type="graph.entity.created.v1", topic=GRAPH, key="entity_id"):
    """An entity is new in the graph of its workspace."""

    model_config = with_example(entity_id=_ENTITY, type="package")

    entity_id: UUID
    type: TypeName


class RelationCreated(EventData, type="graph.relation.created.v1", topic=GRAPH, key="relation_id"):
    """Two entities are newly related."""

    model_config = with_example(
        relation_id="0198f3a0-0000-5000-8000-000000000004",
        subject_id=_ENTITY,
        predicate="requires",
        object_id="0198f3a0-0000-5000-8000-000000000005",
    )

    relation_id: UUID
    subject_id: UUID
    predicate: Predicate
    object_id: UUID
