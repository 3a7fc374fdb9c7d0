"""Builders for the tests of the reader's rules."""

from collections.abc import Callable
from importlib import metadata
from uuid import UUID

import pytest

from kgl_client.document import Chunk, KnownEntity
from kgl_reader.rules.gazetteer import Gazetteer

ChunksOf = Callable[..., list[Chunk]]


@pytest.fixture(scope="session")
def chunks_of() -> ChunksOf:
    """Divide a text at line breaks into chunks of at least `size` characters."""

    def build(text: str, *, size: int = 10**9, title: str | None = None) -> list[Chunk]:
        chunks: list[Chunk] = []
        start = 0
        while start < len(text):
            line_end = text.find("\n", start + size)
            end = len(text) if line_end < 0 else line_end + 1
            number = len(chunks)
            chunks.append(
                Chunk(id=UUID(int=number), ordinal=number, start=start, end=end, title=title, text=text[start:end])
            )
            start = end
        return chunks

    return build


@pytest.fixture(scope="session")
def readmes() -> dict[str, str]:
    """The descriptions of all installed distributions that have a long one, by name."""
    found = {}
    for distribution in metadata.distributions():
        text = distribution.metadata["Description"] or (distribution.read_text("METADATA") or "").partition("\n\n")[2]
        if len(text) > 500:
            found[distribution.name] = text
    return found


@pytest.fixture(scope="session")
def packages() -> Gazetteer:
    """A workspace that knows every installed distribution."""
    names = sorted({distribution.name for distribution in metadata.distributions()})
    return Gazetteer(KnownEntity(name=name, type="package") for name in names)
