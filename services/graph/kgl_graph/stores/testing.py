"""Stores of vectors on real servers, for tests: those that KGL_TEST_SERVERS names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kgl_graph.stores.vector_store import VectorStore
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.servers import real_servers

REAL_STORES = ("weaviate",) if real_servers().weaviate else ()


def weaviate_settings(**changes: Any) -> dict[str, Any]:
    """Settings of graph for the real server, with a collection of their own."""
    servers = real_servers()
    assert servers.weaviate is not None
    return {
        "vectors": "weaviate",
        "weaviate_url": servers.weaviate.url,
        "weaviate_grpc": servers.weaviate_grpc,
        "weaviate_api_key": servers.weaviate.password,
        "weaviate_collection": f"KglTest_{uuid7().hex}",
        **changes,
    }


@asynccontextmanager
async def real_store(**changes: Any) -> AsyncIterator[VectorStore]:
    """The store on the real server; its collection goes in the end."""
    from kgl_graph.stores.weaviate_connection import Address
    from kgl_graph.stores.weaviate_vectors import WeaviateVectors

    settings = weaviate_settings(**changes)
    address = Address(
        url=settings["weaviate_url"], grpc=settings["weaviate_grpc"], api_key=settings["weaviate_api_key"]
    )
    store = WeaviateVectors(address, settings["weaviate_collection"])
    async with store.opened():
        try:
            yield store
        finally:
            await drop(address, settings["weaviate_collection"])


async def drop(address: Any, collection: str) -> None:
    """Delete a collection with all that is in it."""
    async with address.client() as client:
        await client.collections.delete(collection)
