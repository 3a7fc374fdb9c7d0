"""Which index of vectors the settings name, and what comes with it."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kgl_graph.db.tables import PGVECTOR
from kgl_graph.settings import GraphSettings
from kgl_graph.stores.swept_index import SweptIndex
from kgl_graph.stores.vectors import PgVectorIndex, VectorIndex
from kgl_servicekit.database.engine import Database
from kgl_servicekit.settings import NotConfigured


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenVectors:
    """The index, the branches of migrations that it needs, and its resources, checks and loops."""

    index: VectorIndex
    branches: tuple[str, ...] = ()
    resources: Sequence[Callable[[], AbstractAsyncContextManager[Any]]] = ()
    checks: tuple[tuple[str, Callable[[], Awaitable[None]]], ...] = ()
    loops: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()


def vectors_of(settings: GraphSettings, database: Database) -> ChosenVectors:
    """What KGL_VECTORS names; raises NotConfigured."""
    if settings.vectors == "pgvector":
        index = PgVectorIndex(database, exact_below=settings.exact_search_below)
        return ChosenVectors(index=index, branches=(PGVECTOR,))
    # its library takes half a second and 50 MB: only where it is used
    from kgl_graph.stores.weaviate_connection import Address
    from kgl_graph.stores.weaviate_vectors import WeaviateVectors

    url, grpc, key = _checked(settings)
    store = WeaviateVectors(Address(url=url, grpc=grpc, api_key=key), settings.weaviate_collection)
    swept = SweptIndex(database, store)
    return ChosenVectors(
        index=swept,
        resources=[store.opened],
        checks=(("vectors", store.ping),),
        loops=[lambda: swept.keep_swept(settings.vector_sweep_seconds)],
    )


def _checked(settings: GraphSettings) -> tuple[str, str, str | None]:
    url = urlsplit(settings.weaviate_url)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise NotConfigured("KGL_VECTORS=weaviate needs KGL_WEAVIATE_URL, such as http://weaviate:8080")
    grpc = settings.weaviate_grpc or f"{url.hostname}:50051"
    if not grpc.rpartition(":")[2].isdigit() or not grpc.rpartition(":")[0]:
        raise NotConfigured("KGL_WEAVIATE_GRPC is host:port, such as weaviate:50051")
    key = settings.weaviate_api_key.get_secret_value() if settings.weaviate_api_key else ""
    if not key and settings.env == "production":
        raise NotConfigured("set KGL_WEAVIATE_API_KEY or KGL_WEAVIATE_API_KEY_FILE: production has no open store")
    return settings.weaviate_url, grpc, key or None
