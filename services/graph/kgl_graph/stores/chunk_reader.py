"""The chunks of a document version with their vectors, from the object store and the model."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from kgl_graph.db.search_index import Embedded
from kgl_graph.domain.chunks import Chunk, read_chunks
from kgl_graph.stores.embedder import Embedder
from kgl_servicekit.errors import JobFailed
from kgl_servicekit.objects.port import ObjectMissing, ObjectStore
from kgl_servicekit.objects.within import read_within


@dataclass(frozen=True, slots=True)
class Searchable:
    """What makes a document version searchable."""

    chunks: tuple[Chunk, ...]
    vectors: tuple[Embedded, ...]


async def read_searchable(objects: ObjectStore, embedder: Embedder, folder: str, key: str, sha256: str) -> Searchable:
    """Read and embed; JobFailed when the object is not in its folder, or is not the one that was parsed."""
    try:
        content = await read_within(objects, folder, key)
    except ObjectMissing as missing:
        # ingest removes those of deleted documents, and that this is one may be heard of a moment later
        sentence = "The chunks of this version are not in the object store."
        raise JobFailed("chunks_missing", sentence, retry=True) from missing
    if hashlib.sha256(content).hexdigest() != sha256:
        raise JobFailed("chunks_damaged", "The chunks in the object store are not those that were parsed.")
    chunks = read_chunks(content)
    return Searchable(tuple(chunks), await embedded(embedder, chunks))


async def embedded(embedder: Embedder, chunks: Sequence[Chunk]) -> tuple[Embedded, ...]:
    """The chunks with their vectors."""
    vectors = await embedder.embed([_embedded_text(chunk) for chunk in chunks])
    return tuple(Embedded(chunk.id, vector) for chunk, vector in zip(chunks, vectors, strict=True))


def _embedded_text(chunk: Chunk) -> str:
    return f"{chunk.title}\n{chunk.text}" if chunk.title else chunk.text
