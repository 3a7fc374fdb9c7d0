"""Vectors in Weaviate: one collection, a tenant for each workspace, vectors of our own, compared by cosine."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from loguru import logger
from weaviate import WeaviateAsyncClient
from weaviate.classes.config import Configure, DataType, Property, VectorDistances
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter
from weaviate.collections.collection import CollectionAsync
from weaviate.exceptions import WeaviateInsertManyAllFailedError, WeaviateQueryError

from kgl_graph.db.search_index import Embedded
from kgl_graph.stores.vector_store import VectorsRefused, VectorsUnavailable
from kgl_graph.stores.weaviate_connection import Address, KeyRefused, WeaviateConnection, passes
from kgl_servicekit.ids import derived_id
from kgl_servicekit.settings import NotConfigured

T = TypeVar("T")

_VECTOR = "default"
_BATCH = 250  # a quarter of a megabyte
_PAGE = 1000
_NOBODY = UUID(int=0)
_PING, _START, _SEARCH, _PUT, _DELETE, _READ = 1.5, 10.0, 5.0, 30.0, 30.0, 30.0  # seconds that each may take
_RETRY = 2.0


class WeaviateVectors:
    """The port VectorStore. Opened once by each role of a process; makes its collection where it is missing."""

    def __init__(self, address: Address, collection: str) -> None:
        self._name = collection
        self._connection = WeaviateConnection(address, self._prepare)
        self._users = 0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Connected, or soon: a server that is out is waited for beside what else the service does.

        Raises NotConfigured for a key that is not accepted and for a collection that is not of our making.
        """
        self._users += 1
        waiting = None
        try:
            try:
                await self._connection.use(_nothing, _START)
            except KeyRefused as refused:
                raise NotConfigured(
                    f"KGL_WEAVIATE_API_KEY is not accepted by {self._connection.address.url}"
                ) from refused
            except VectorsUnavailable as out:
                waiting = asyncio.create_task(self._wait(out))
            yield
        finally:
            if waiting is not None:
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
            self._users -= 1
            if self._users == 0:
                await self._connection.close()

    async def ping(self) -> None:
        """Answer within 1.5 s, or raise: the server is ready, and takes our key and knows the collection over gRPC."""

        async def ask(client: WeaviateAsyncClient) -> None:
            if not await client.is_ready():
                raise VectorsUnavailable(retry_after=2)
            await client.collections.use(self._name).tenants.get_by_names([str(_NOBODY)])

        await self._connection.use(ask, _PING)

    async def put(self, workspace: UUID, document: UUID, version: int, items: Sequence[Embedded]) -> None:
        """Keep vectors so that a server that is killed afterwards still finds them.

        A server answers when the objects are in its log, but the index of the vectors may not be: 1.35 flushes that
        log before the batch is indexed. The next batch of the tenant flushes it, so the last object is sent once more,
        which changes nothing else. And vectors that were lost so are not indexed when the same are sent again, since
        they are unchanged; so each time they have another length, which cosine does not see.
        """
        length = random.uniform(1, 2)  # noqa: S311
        objects = [
            DataObject(
                uuid=derived_id(workspace, item.chunk_id),
                properties={"document_id": document, "version": version, "chunk_id": item.chunk_id},
                vector={_VECTOR: [length * value for value in item.vector]},
            )
            for item in items
        ]
        batches = [objects[first : first + _BATCH] for first in range(0, len(objects), _BATCH)]
        for batch in (*batches, objects[-1:]):
            if errors := await self._connection.use(partial(self._insert, workspace, batch), _PUT):
                raise of_objects(errors, len(batch))

    async def _insert(self, workspace: UUID, batch: list[Any], client: WeaviateAsyncClient) -> list[str]:
        """The errors of single objects."""
        try:
            answer = await self._tenant(client, workspace).data.insert_many(batch)
        except WeaviateInsertManyAllFailedError as failed:
            return [str(failed.args[0])] * len(batch)
        return [error.message for error in answer.errors.values()]

    async def search(self, workspace: UUID, vector: Sequence[float], most: int) -> list[UUID]:
        async def find(tenant: CollectionAsync) -> list[UUID]:
            found = await tenant.query.near_vector(
                list(vector), limit=most, target_vector=_VECTOR, return_properties=["chunk_id"]
            )
            return [UUID(str(each.properties["chunk_id"])) for each in found.objects]

        return await self._in(workspace, find, _SEARCH, [])

    async def delete(self, workspace: UUID, document: UUID, *, least: int = 0, below: int) -> None:
        version = Filter.by_property("version")
        of_document = Filter.by_property("document_id").equal(document)
        which = Filter.all_of([of_document, version.greater_or_equal(least), version.less_than(below)])

        async def forget(tenant: CollectionAsync) -> bool:
            """Whether there may be more: a server deletes so many objects at once, and no more."""
            answer = await tenant.data.delete_many(where=which)
            if answer.failed:
                sentence = f"{answer.failed} of {answer.matches} vectors were not deleted"
                raise VectorsUnavailable(sentence, retry_after=2)
            return answer.matches > 0

        while await self._in(workspace, forget, _DELETE, False):
            pass

    async def workspaces(self) -> list[UUID]:
        async def names(client: WeaviateAsyncClient) -> list[UUID]:
            return [UUID(name) for name in await client.collections.use(self._name).tenants.get() if _is_uuid(name)]

        return await self._connection.use(names, _READ)

    async def versions(self, workspace: UUID) -> AsyncIterator[set[tuple[UUID, int]]]:
        async for page in self._pages(workspace, ["document_id", "version"]):
            yield {(UUID(str(each["document_id"])), int(each["version"])) for each in page}

    async def kept_ids(self, workspace: UUID) -> AsyncIterator[Sequence[tuple[UUID, int, UUID]]]:
        async for page in self._pages(workspace, ["document_id", "version", "chunk_id"]):
            yield [(UUID(str(each["document_id"])), int(each["version"]), UUID(str(each["chunk_id"]))) for each in page]

    async def _pages(self, workspace: UUID, names: list[str]) -> AsyncIterator[list[Any]]:
        """These properties of all objects of a workspace."""
        after: UUID | None = None

        async def read(tenant: CollectionAsync) -> list[Any]:
            page = await tenant.query.fetch_objects(limit=_PAGE, after=after, return_properties=names)
            return list(page.objects)

        nothing: list[Any] = []
        while page := await self._in(workspace, read, _READ, nothing):
            after = page[-1].uuid
            yield [each.properties for each in page]

    async def _in(
        self, workspace: UUID, act: Callable[[CollectionAsync], Awaitable[T]], within: float, otherwise: T
    ) -> T:
        """Do something in the tenant of a workspace; without one nothing was ever stored for it."""

        async def use(client: WeaviateAsyncClient) -> T:
            try:
                return await act(self._tenant(client, workspace))
            except WeaviateQueryError as refused:
                if "tenant not found" in str(refused.message):
                    return otherwise
                raise

        return await self._connection.use(use, within)

    def _tenant(self, client: WeaviateAsyncClient, workspace: UUID) -> CollectionAsync:
        return client.collections.use(self._name).with_tenant(str(workspace))

    async def _wait(self, out: VectorsUnavailable) -> None:
        """Say what is waited for until the server answers; every use tries for itself meanwhile."""
        address = self._connection.address
        while True:
            logger.bind(url=address.url, grpc=address.grpc, error=str(out.__cause__ or out)).warning(
                "vectors.unreachable: waiting for Weaviate at KGL_WEAVIATE_URL and KGL_WEAVIATE_GRPC"
            )
            await asyncio.sleep(_RETRY)
            try:
                await self.ping()
                return
            except VectorsUnavailable as still:
                out = still
            except (NotConfigured, VectorsRefused) as wrong:
                logger.error(f"vectors.wrong: {wrong}")

    async def _prepare(self, client: WeaviateAsyncClient) -> None:
        """Make the collection if it is missing; of processes that start together one does."""
        if not await client.is_ready():  # it answers some seconds before it knows its collections
            raise VectorsUnavailable(retry_after=2)
        if not await client.collections.exists(self._name):
            try:
                await self._make(client)
                logger.bind(collection=self._name).info("vectors.collection_made")
            except Exception:
                if not await client.collections.exists(self._name):
                    raise
        tenancy = (await client.collections.use(self._name).config.get()).multi_tenancy_config
        if not (tenancy.enabled and tenancy.auto_tenant_creation):
            raise NotConfigured(
                f"KGL_WEAVIATE_COLLECTION names {self._name}, which makes no tenants by itself: choose another name"
            )

    async def _make(self, client: WeaviateAsyncClient) -> None:
        await client.collections.create(
            self._name,
            properties=[
                Property(name="document_id", data_type=DataType.UUID),
                Property(name="version", data_type=DataType.INT),
                Property(name="chunk_id", data_type=DataType.UUID, index_filterable=False),
            ],
            vector_config=Configure.Vectors.self_provided(
                vector_index_config=Configure.VectorIndex.hnsw(
                    distance_metric=VectorDistances.COSINE, quantizer=Configure.VectorIndex.Quantizer.none()
                )
            ),
            multi_tenancy_config=Configure.multi_tenancy(
                enabled=True, auto_tenant_creation=True, auto_tenant_activation=True
            ),
        )


async def _nothing(_: WeaviateAsyncClient) -> None:
    """What a connection is made for that is not used yet."""


def of_objects(errors: Sequence[str], sent: int) -> Exception:
    """What the errors of single objects mean for all of them."""
    sentence = f"{len(errors)} of {sent} vectors were not kept: {'; '.join(sorted(set(errors)))[:500]}"
    return VectorsUnavailable(sentence, retry_after=2) if all(map(passes, errors)) else VectorsRefused(sentence)


def _is_uuid(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
