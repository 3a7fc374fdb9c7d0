"""The door to the rules: what a document speaks of, and what it says in short."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from kgl_client.document import Chunk, KnownEntity
from kgl_contracts.ai import ExtractedEntity, Extraction, Summary
from kgl_reader.rules import key_phrases, patterns, summary
from kgl_reader.rules.document import Document
from kgl_reader.rules.gazetteer import Gazetteer
from kgl_reader.rules.model import Entity, Occurrence
from kgl_reader.rules.outline import Outline, title_of
from kgl_reader.rules.relations import is_named, main_entity, relations

MOST_ENTITIES = 200
MOST_MENTIONS = 50
_MOST_ALIASES = 10
_LONGEST_NAME = 200
# Names inside these are names of their own; inside any other name they are only a part of it.
_OPEN_TYPES = frozenset({key_phrases.TOPIC, patterns.REPOSITORY, patterns.WEBSITE})


def extract(chunks: Iterable[Chunk], gazetteer: Gazetteer) -> Extraction:
    """Return the entities of a document and their relations: at most 200 entities of 50 mentions each.

    The document's main entity comes first, then known ones, then those with most mentions. Every mention lies
    in one chunk; a name that crosses the edge of a chunk is left out. The same input gives the same result.
    """
    document = Document.of(chunks)
    outline = Outline.of(document.text)
    main = main_entity(title_of(document, outline), gazetteer)
    entities = _merged(_named(outline, gazetteer), document)
    if main and not any(is_named(entity, main) for entity in entities):
        entities.append(Entity(main.name, main.type, ()))
    entities.sort(key=lambda entity: _rank(entity, main, gazetteer))
    kept = entities[:MOST_ENTITIES]
    return Extraction(
        entities=tuple(_extracted(entity, document) for entity in kept),
        relations=tuple(relations(main, kept, document, outline)) if main else (),
    )


def summarise(chunks: Iterable[Chunk]) -> Summary:
    """Return a summary of up to 4 sentences of the document.

    Raises: NothingToSummariseError when it has no readable text.
    """
    document = Document.of(chunks)
    outline = Outline.of(document.text)
    phrases = key_phrases.key_phrases(outline)
    return summary.summarise(document, outline, phrases, title_of(document, outline))


def _named(outline: Outline, gazetteer: Gazetteer) -> list[Occurrence]:
    """Return all occurrences of known entities, of entities known by form, and of key phrases."""
    text = outline.text
    by_form = [_adopted(found, gazetteer) for found in patterns.occurrences(text)]
    taken = {found.name.casefold() for found in by_form}
    taken.update(text[found.start : found.end].casefold() for found in by_form)
    topics = [
        phrase
        for phrase in key_phrases.key_phrases(outline)
        if not any(gazetteer.has(name) or name.casefold() in taken for name in phrase.names)
    ]
    return [*gazetteer.find(text), *by_form, *key_phrases.occurrences(topics, text)]


def _adopted(found: Occurrence, gazetteer: Gazetteer) -> Occurrence:
    """Return the occurrence under the name and type that the workspace knows.

    Licences keep their own: many are called after what made them.
    """
    known = gazetteer.get(found.name)
    if not known or (found.type == patterns.LICENSE and known.type != patterns.LICENSE):
        return found
    return replace(found, name=known.name, type=known.type)


def _merged(occurrences: Iterable[Occurrence], document: Document) -> list[Entity]:
    """Return one entity for each name, in any case, and type, in the order of the text.

    Parts of longer names and overlaps of an entity with itself are left out.
    """
    groups: defaultdict[tuple[str, str], list[Occurrence]] = defaultdict(list)
    around: Occurrence | None = None
    for found in sorted(occurrences, key=_leftmost_longest):
        if around and found.end <= around.end:
            continue
        group = groups[found.name.casefold(), found.type]
        if (group and found.start < group[-1].end) or not document.span(found.start, found.end):
            continue
        group.append(found)
        if found.type not in _OPEN_TYPES:
            around = found
    return [Entity(group[0].name, group[0].type, tuple(group)) for group in groups.values() if group]


def _leftmost_longest(found: Occurrence) -> tuple[int, int, bool, str, str]:
    return found.start, -found.end, found.type != patterns.LICENSE, found.type, found.name


def _rank(entity: Entity, main: KnownEntity | None, gazetteer: Gazetteer) -> tuple[bool, bool, int]:
    is_main = bool(main and is_named(entity, main))
    return not is_main, not gazetteer.knows(entity.name, entity.type), -len(entity.occurrences)


def _extracted(entity: Entity, document: Document) -> ExtractedEntity:
    return ExtractedEntity(
        name=entity.name,
        type=entity.type,
        aliases=_aliases(entity, document.text),
        mentions=tuple(islice(document.spans(entity.occurrences), MOST_MENTIONS)),
    )


def _aliases(entity: Entity, text: str) -> tuple[str, ...]:
    """Return the other spellings of the name in this text, in the order in which they come."""
    seen = {entity.name.casefold()}
    aliases: list[str] = []
    for found in entity.occurrences:
        surface = " ".join(text[found.start : found.end].split())
        if surface.casefold() not in seen and len(surface) <= _LONGEST_NAME:
            seen.add(surface.casefold())
            aliases.append(surface)
    return tuple(aliases[:_MOST_ALIASES])
