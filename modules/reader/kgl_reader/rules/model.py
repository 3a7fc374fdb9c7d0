"""What the rules pass to each other."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A place where an entity is named: characters `start` to `end` (exclusive) of the document's text."""

    name: str
    type: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity of a document with all its occurrences in the order of the text, which do not overlap."""

    name: str
    type: str
    occurrences: tuple[Occurrence, ...]
