"""A connection to Weaviate that is made when it is used, given up when the server is lost, and then made anew.

The library repeats what finds no server for a minute, and its channel can hold on to a server that is gone. So each
use has a time of its own, and a use that finds the server out of reach throws the client away.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import weaviate
from grpc import StatusCode
from grpc.aio import AioRpcError, UsageError
from loguru import logger
from weaviate import exceptions as wrong
from weaviate.auth import AuthApiKey
from weaviate.config import AdditionalConfig, GrpcConfig, Timeout

from kgl_graph.stores.vector_store import VectorsRefused, VectorsUnavailable

T = TypeVar("T")
Use = Callable[[weaviate.WeaviateAsyncClient], Awaitable[T]]

_OUT_OF_REACH = (
    TimeoutError,
    httpx.TransportError,
    UsageError,
    wrong.WeaviateConnectionError,
    wrong.WeaviateStartUpError,
    wrong.WeaviateTimeoutError,
    wrong.WeaviateGRPCUnavailableError,
    wrong.WeaviateClosedClientError,
    wrong.WeaviateRetryError,
)
_OUT_CODES = {
    StatusCode.UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.CANCELLED,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.ABORTED,
}
_KEY_CODES = {StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED}
# what a server says, with a status of its own or none, while it ends, is short of something, or a node of it is away
_PASSING = (
    *("timeout", "deadline", "unavailable", "connection", "leader", "shut", "replica"),
    *("not ready", "read-only", "readonly", "memory"),
)
# a channel that has lost its server tries again within a second, not after two minutes
_CHANNEL = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]


class KeyRefused(VectorsUnavailable, code="vectors_unavailable", status=503):
    """Weaviate does not accept the key in KGL_WEAVIATE_API_KEY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where Weaviate is: `url` with http or https, `grpc` as host:port (encrypted if the URL is), and a key."""

    url: str
    grpc: str
    api_key: str | None = None

    def client(self) -> weaviate.WeaviateAsyncClient:
        """A client that has done nothing yet."""
        url = urlsplit(self.url)
        secure = url.scheme == "https"
        host, _, port = self.grpc.rpartition(":")
        return weaviate.use_async_with_custom(
            http_host=url.hostname or "",
            http_port=url.port or (443 if secure else 80),
            http_secure=secure,
            grpc_host=host,
            grpc_port=int(port),
            grpc_secure=secure,
            auth_credentials=AuthApiKey(self.api_key) if self.api_key else None,
            # the times of each use are shorter; these end what was left behind
            additional_config=AdditionalConfig(
                timeout=Timeout(init=2, query=30, insert=60),
                grpc_config=GrpcConfig(channel_options=_CHANNEL),
                trust_env=secure,  # SSL_CERT_FILE
            ),
            skip_init_checks=True,  # they ask PyPI for the library's version
        )


@dataclass(slots=True)
class _Open:
    """A client in use, which is closed when it is given up and nobody uses it any more."""

    client: weaviate.WeaviateAsyncClient
    users: int = 0
    given_up: bool = False


class WeaviateConnection:
    """The one client of a process. `prepare` runs on each new connection before anything else does."""

    def __init__(self, address: Address, prepare: Use[None]) -> None:
        self.address = address
        self._prepare = prepare
        self._opened: _Open | None = None
        self._opening = asyncio.Lock()

    async def use(self, act: Use[T], within: float) -> T:
        """Do something with the client in so many seconds. Raises VectorsUnavailable, KeyRefused, VectorsRefused."""
        try:
            async with asyncio.timeout(within):
                opened = await self._open()
        except Exception as error:
            raise self.told(error) from error
        opened.users += 1
        try:
            async with asyncio.timeout(within):
                return await act(opened.client)
        except Exception as error:
            told = self.told(error)
            if isinstance(told, VectorsUnavailable):
                self._give_up(opened)
            raise told from error
        finally:
            opened.users -= 1
            await self._close(opened)

    async def close(self) -> None:
        if self._opened is not None:
            opened = self._opened
            self._give_up(opened)
            await self._close(opened)

    async def _open(self) -> _Open:
        async with self._opening:
            if self._opened is None:
                # its own errors come as ours, and it would log whole vectors beside them
                logging.getLogger("weaviate-client").setLevel(logging.CRITICAL)
                client = self.address.client()
                try:
                    await client.connect()
                    await self._prepare(client)
                except BaseException:
                    await client.close()
                    raise
                self._opened = _Open(client)
                logger.bind(url=self.address.url).info("vectors.connected")
            return self._opened

    def _give_up(self, opened: _Open) -> None:
        opened.given_up = True
        if self._opened is opened:
            self._opened = None

    async def _close(self, opened: _Open) -> None:
        if opened.given_up and opened.users == 0:
            await opened.client.close()

    def told(self, error: Exception) -> Exception:
        """What an error of the library means to us."""
        if isinstance(error, VectorsUnavailable | VectorsRefused):
            return error
        code, status = _code(error), getattr(error, "status_code", 0)
        if isinstance(error, wrong.AuthenticationFailedError) or status in {401, 403} or code in _KEY_CODES:
            logger.bind(url=self.address.url).error("vectors.key_refused: KGL_WEAVIATE_API_KEY is not accepted")
            return KeyRefused(retry_after=5)
        if isinstance(error, _OUT_OF_REACH) or code in _OUT_CODES or status == 429 or status >= 500:
            return VectorsUnavailable(retry_after=2)
        if isinstance(error, wrong.WeaviateBaseError | AioRpcError):
            return VectorsUnavailable(retry_after=2) if passes(str(error)) else VectorsRefused(str(error)[:500])
        return error


def passes(sentence: str) -> bool:
    """Whether what the server says will not be so a little later."""
    return any(word in sentence.lower() for word in _PASSING)


def _code(error: BaseException) -> StatusCode | None:
    """The status of a gRPC call; the library keeps it only in what its own error was raised from."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, AioRpcError):
            return found.code()
        found = found.__cause__ or found.__context__
    return None
