"""Which index of vectors the settings name, and what the errors of Weaviate mean."""

from typing import Any

import httpx
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from pydantic import ValidationError
from weaviate import exceptions as wrong

from kgl_graph.db.search_index import Embedded
from kgl_graph.settings import GraphSettings
from kgl_graph.stores.choose_vectors import vectors_of
from kgl_graph.stores.swept_index import SweptIndex
from kgl_graph.stores.vector_store import VectorsRefused, VectorsUnavailable
from kgl_graph.stores.vectors import PgVectorIndex
from kgl_graph.stores.weaviate_connection import Address, KeyRefused, WeaviateConnection
from kgl_graph.stores.weaviate_vectors import WeaviateVectors, of_objects
from kgl_servicekit.database.engine import Database
from kgl_servicekit.ids import uuid7
from kgl_servicekit.settings import NotConfigured

DATABASE = Database("postgresql:///none", service="graph")


def settings(**values: Any) -> GraphSettings:
    return GraphSettings(**{"env": "test", "database_url": "postgresql:///none", "object_dir": "/none", **values})


def test_pgvector_is_the_default_and_needs_its_branch_of_migrations() -> None:
    chosen = vectors_of(settings(), DATABASE)
    assert isinstance(chosen.index, PgVectorIndex)
    assert (chosen.branches, dict(chosen.checks)) == (("pgvector",), {})


def test_weaviate_needs_no_branch_and_is_checked_and_swept() -> None:
    chosen = vectors_of(settings(vectors="weaviate", weaviate_url="http://weaviate:8080"), DATABASE)
    assert isinstance(chosen.index, SweptIndex)
    assert (chosen.branches, list(dict(chosen.checks)), len(chosen.loops)) == ((), ["vectors"], 1)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "KGL_WEAVIATE_URL"),
        ({"weaviate_url": "weaviate:8080"}, "KGL_WEAVIATE_URL"),
        ({"weaviate_url": "http://weaviate:8080", "weaviate_grpc": "weaviate"}, "KGL_WEAVIATE_GRPC"),
        ({"weaviate_url": "http://weaviate:8080", "weaviate_grpc": ":1"}, "KGL_WEAVIATE_GRPC"),
        ({"weaviate_url": "http://weaviate:8080", "env": "production"}, "KGL_WEAVIATE_API_KEY"),
    ],
)
def test_what_is_missing_or_wrong_is_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(NotConfigured, match=named):
        vectors_of(settings(vectors="weaviate", **values), DATABASE)


def test_a_collection_has_a_name_that_weaviate_takes() -> None:
    with pytest.raises(ValidationError):
        settings(weaviate_collection="chunks-of-kgl")


def rpc(code: StatusCode, details: str = "said") -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(), details=details)


def from_rpc(code: StatusCode, details: str = "said") -> Exception:
    """As the library raises it: the status is only in what its own error came from."""
    try:
        try:
            raise rpc(code, details)
        except AioRpcError as error:
            raise wrong.WeaviateQueryError(str(error.details()), "GRPC search")  # noqa: B904
    except wrong.WeaviateQueryError as told:
        return told


def answered(status: int) -> Exception:
    return wrong.UnexpectedStatusCodeError("no", httpx.Response(status, json={}))


@pytest.mark.parametrize(
    ("error", "means"),
    [
        (TimeoutError(), VectorsUnavailable),
        (httpx.ConnectError("refused"), VectorsUnavailable),
        (wrong.WeaviateStartUpError("out"), VectorsUnavailable),
        (wrong.WeaviateClosedClientError(), VectorsUnavailable),
        (rpc(StatusCode.UNAVAILABLE), VectorsUnavailable),
        (from_rpc(StatusCode.DEADLINE_EXCEEDED), VectorsUnavailable),
        (from_rpc(StatusCode.UNAUTHENTICATED), KeyRefused),
        (from_rpc(StatusCode.UNKNOWN), VectorsRefused),
        (from_rpc(StatusCode.UNKNOWN, "vector search: no read replica found"), VectorsUnavailable),  # it is ending
        (answered(401), KeyRefused),
        (answered(403), KeyRefused),
        (answered(429), VectorsUnavailable),
        (answered(503), VectorsUnavailable),
        (answered(422), VectorsRefused),
        (ZeroDivisionError(), ZeroDivisionError),
    ],
)
async def test_errors_of_the_library_are_told_as_ours(error: Exception, means: type[Exception]) -> None:
    async def nothing(_: object) -> None: ...

    connection = WeaviateConnection(Address(url="http://127.0.0.1:1", grpc="127.0.0.1:2"), nothing)
    assert type(connection.told(error)) is means


def test_errors_of_single_objects_pass_when_all_of_them_do() -> None:
    passing = of_objects(["not enough memory", "context deadline exceeded"], 250)
    assert isinstance(passing, VectorsUnavailable)
    assert "2 of 250" in str(passing)
    lasting = of_objects(["not enough memory", "vector lengths don't match: 256 vs 3"], 250)
    assert isinstance(lasting, VectorsRefused)
    assert "2 of 250" in str(lasting)
    assert "lengths" in str(lasting)


class Recorded(WeaviateVectors):
    """A store whose server is a list of the batches that it was sent."""

    def __init__(self) -> None:
        super().__init__(Address(url="http://127.0.0.1:1", grpc="127.0.0.1:2"), "KglChunk")
        self.sent: list[list[Any]] = []

        async def use(act: Any, within: float) -> Any:
            return await act(None)

        self._connection.use = use  # type: ignore[method-assign]

    async def _insert(self, workspace: Any, batch: list[Any], client: Any) -> list[str]:
        self.sent.append(batch)
        return []


async def test_the_last_vector_is_sent_once_more_and_the_same_ones_again_have_another_length() -> None:
    store, workspace = Recorded(), uuid7()
    items = [Embedded(uuid7(), [3.0, 4.0]) for _ in range(251)]
    for _ in range(2):
        await store.put(workspace, uuid7(), 1, items)
    assert [len(batch) for batch in store.sent] == [250, 1, 1] * 2
    assert store.sent[2] == store.sent[1]
    first, again = store.sent[0][0].vector["default"], store.sent[3][0].vector["default"]
    assert first != again
    assert [first[1] / first[0], again[1] / again[0]] == pytest.approx([4 / 3, 4 / 3])
