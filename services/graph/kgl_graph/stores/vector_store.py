"""Where vectors are kept outside of the database: the port of a store that knows nothing of a document's life."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol
from uuid import UUID

from kgl_graph.db.search_index import Embedded
from kgl_servicekit.errors import Unavailable


class VectorsUnavailable(Unavailable, code="vectors_unavailable", status=503):
    """The store of vectors cannot be reached at the moment; try again after Retry-After."""


class VectorsRefused(Exception):
    """The store of vectors refused what it was asked for; the same again will be refused again."""


class VectorStore(Protocol):
    """Vectors by workspace and chunk; storing a chunk again replaces its vector.

    All raise VectorsUnavailable while the store is out of reach, and VectorsRefused.
    """

    async def put(self, workspace: UUID, document: UUID, version: int, items: Sequence[Embedded]) -> None:
        """Keep vectors; when it raises, some of them may be kept, now or a little later."""
        ...

    async def search(self, workspace: UUID, vector: Sequence[float], most: int) -> list[UUID]:
        """The chunks nearest by cosine, nearest first; none in a workspace that nothing was ever stored for."""
        ...

    async def delete(self, workspace: UUID, document: UUID, *, least: int = 0, below: int) -> None:
        """Forget the vectors of a document's versions from `least` to before `below`."""
        ...

    async def workspaces(self) -> list[UUID]:
        """Those that something was stored for."""
        ...

    def versions(self, workspace: UUID) -> AsyncIterator[set[tuple[UUID, int]]]:
        """The documents and versions of all vectors of a workspace, page by page."""
        ...

    def kept_ids(self, workspace: UUID) -> AsyncIterator[Sequence[tuple[UUID, int, UUID]]]:
        """The document, version and chunk of all vectors of a workspace, page by page."""
        ...
