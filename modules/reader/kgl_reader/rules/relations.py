"""What the main entity of a document is said together with."""

import re
from bisect import bisect_right
from collections.abc import Sequence

from kgl_client.document import KnownEntity
from kgl_contracts.ai import EntityRef, ExtractedRelation
from kgl_reader.rules.document import Document
from kgl_reader.rules.gazetteer import Gazetteer
from kgl_reader.rules.model import Entity, Occurrence
from kgl_reader.rules.outline import Outline

MENTIONS = "mentions"
MOST_RELATIONS = 50
_MOST_EVIDENCE = 10
_TOGETHER = 2
_AFTER_NAME = re.compile(
    r"\s*(?:$|[:|(,–—]|-\s|v?\d+(?:\.\d+)*(?:\s|$))|\s(?:documentation|docs|readme|manual)\b", re.IGNORECASE
)


def main_entity(title: str | None, gazetteer: Gazetteer) -> KnownEntity | None:
    """Return the known entity that a document is about, by its title.

    The title is a name of the entity, alone or before a version, a subtitle or a remark.
    """
    title = (title or "").strip("`*_# ")
    for found in gazetteer.find(title)[:1]:
        if _AFTER_NAME.match(title, found.end):
            return gazetteer.get(title[: found.end])
    return None


def relations(
    main: KnownEntity, entities: Sequence[Entity], document: Document, outline: Outline
) -> list[ExtractedRelation]:
    """Return that the main entity mentions each other entity, at most 50, the strongest first.

    Strength is the number of mentions; one in a paragraph that names the main entity counts threefold, and
    such mentions come first in the evidence, which holds up to 10.
    """
    starts = [block.start for block in outline.blocks]

    def paragraph(found: Occurrence) -> int:
        return bisect_right(starts, found.start)

    own = [found for entity in entities if is_named(entity, main) for found in entity.occurrences]
    shared = {paragraph(found) for found in own}
    ranked: list[tuple[int, int, ExtractedRelation]] = []
    for rank, entity in enumerate(entities):
        if is_named(entity, main) or not entity.occurrences:
            continue
        nearest = sorted(entity.occurrences, key=lambda found: paragraph(found) not in shared)
        together = sum(paragraph(found) in shared for found in nearest)
        relation = ExtractedRelation(
            subject=EntityRef(name=main.name, type=main.type),
            predicate=MENTIONS,
            object=EntityRef(name=entity.name, type=entity.type),
            evidence=tuple(document.spans(nearest[:_MOST_EVIDENCE])),
        )
        ranked.append((-len(nearest) - _TOGETHER * together, rank, relation))
    return [relation for _, _, relation in sorted(ranked, key=lambda row: row[:2])[:MOST_RELATIONS]]


def is_named(entity: Entity, known: KnownEntity) -> bool:
    """Return whether the entity of the document is the known one."""
    return (entity.name, entity.type) == (known.name, known.type)
