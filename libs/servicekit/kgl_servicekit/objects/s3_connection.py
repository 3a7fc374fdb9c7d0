"""How an S3 server is asked: one bucket of it, over HTTP, with time-outs, and its refusals as errors of ours.

Plain S3, addressed by path: nothing that MinIO, SeaweedFS, Garage, Ceph or AWS does in its own way. Requests are
made in threads of their own, a bounded number at a time.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import ParamSpec, TypeVar
from xml.etree import ElementTree

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, ProtocolError

from kgl_servicekit.errors import Unavailable
from kgl_servicekit.objects.s3_signature import NO_CONTENT, Signer, query_of

_THREADS = 32
_BLOCK = 256 * 1024
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 30.0
_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"
P = ParamSpec("P")
R = TypeVar("R")


class Unreachable(Unavailable, code="unavailable", status=503):
    """The object store cannot be reached at the moment; try again after Retry-After."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"The object store cannot be reached: {type(error).__name__}.", retry_after=5)
        self.untrusted = _CERTIFICATE in str(error)


class Refused(Unavailable, code="unavailable", status=503):
    """The object store refuses this at the moment; try again after Retry-After."""

    def __init__(self, http_status: int, name: str) -> None:
        super().__init__(f"The object store answers {name}.", retry_after=5)
        self.http_status = http_status
        self.name = name

    @property
    def is_taken(self) -> bool:
        """Whether the key is not free, or (409 of AWS) another writer of it is not done."""
        return self.http_status in (409, 412)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A signed request; at most so many seconds for each step of it."""

    method: str
    url: str
    headers: dict[str, str]
    content: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def xml(self) -> ElementTree.Element:
        """Its document. Elements are found as `{*}Name`: not every server gives their namespace."""
        try:
            return ElementTree.fromstring(self.content)  # noqa: S314 - the store is our own
        except ElementTree.ParseError:
            return ElementTree.Element("None")


Send = Callable[[Request], urllib3.BaseHTTPResponse]


@dataclass(kw_only=True)
class S3Connection:
    """A bucket and the user on it.

    url     scheme, host and port, without a path
    public  the same as browsers have to address it, for links
    ca      certificates to trust, instead of the system's
    send    what sends requests instead, in tests

    `user_setting` and `secret_setting` are what an operator has set the user by.
    """

    url: str
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str
    public: str
    ca: Path | None = None
    send: Send | None = None
    user_setting: str = "KGL_S3_ACCESS_KEY"
    secret_setting: str = "KGL_S3_SECRET_KEY"  # noqa: S105
    _threads: ThreadPoolExecutor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._signer = Signer(self.access_key, self.secret_key, self.region)
        self._host = self.url.partition("://")[2]
        tls = None  # nothing to verify, and no certificates to load
        if self.url.startswith("https:"):
            tls = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=_THREADS, retries=False, ssl_context=tls)

    async def request(
        self,
        method: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        content_sha256: str = NO_CONTENT,
        seconds: float = _READ_SECONDS,
    ) -> Answer:
        """The answer to a request; without a key it is to the bucket. Raises Unreachable, Refused."""
        request = self._signed(method, key, query or {}, headers or {}, content, content_sha256, seconds)
        with _reached():
            answer = await self._in_thread(self._ask, request)
        _check(answer, may_fail_late=method == "POST")
        return answer

    async def blocks(self, key: str, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The content of an object, block by block. Raises Unreachable, Refused."""
        request = self._signed("GET", key, {}, headers, b"", NO_CONTENT, _READ_SECONDS)
        with _reached():
            response = await self._in_thread(self._open, request)
            try:
                if response.status >= 300:
                    content = await self._in_thread(response.read)
                    _check(Answer(response.status, response.headers, content))
                while block := await self._in_thread(response.read, _BLOCK):
                    yield block
                response.release_conn()
            finally:
                response.close()

    async def close(self) -> None:
        """End all connections and threads; the next request makes new ones."""
        self._pool.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None

    def link(self, key: str, seconds: int, query: Mapping[str, str]) -> str:
        """A URL that lets whoever has it read the object for so long."""
        return self._signer.link("GET", self.public, self._path(key), query, seconds, datetime.now(UTC))

    def _signed(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        content: bytes,
        content_sha256: str,
        seconds: float,
    ) -> Request:
        path = self._path(key)
        signed = self._signer.signed(method, self._host, path, query, headers, content_sha256, datetime.now(UTC))
        return Request(
            method=method,
            url=f"{self.url}{path}?{query_of(query)}" if query else f"{self.url}{path}",
            headers={**signed, "user-agent": "kgl"},
            content=content,
            seconds=seconds,
        )

    def _path(self, key: str) -> str:
        return f"/{self.bucket}/{key}" if key else f"/{self.bucket}"

    async def _in_thread(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, "s3")
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: call(*args, **kwargs))

    def _ask(self, request: Request) -> Answer:
        response = self._open(request)
        try:
            content = response.read()
            response.release_conn()
        finally:
            response.close()
        return Answer(response.status, response.headers, content)

    def _open(self, request: Request) -> urllib3.BaseHTTPResponse:
        """Tried twice if the connection ends: it may be an old one that the server was closing."""
        try:
            return self._sent(request)
        except ProtocolError:
            return self._sent(request)

    def _sent(self, request: Request) -> urllib3.BaseHTTPResponse:
        if self.send is not None:
            return self.send(request)
        return self._pool.request(
            request.method,
            request.url,
            headers=request.headers,
            body=request.content or None,
            timeout=urllib3.Timeout(connect=min(_CONNECT_SECONDS, request.seconds), read=request.seconds),
            preload_content=False,
            decode_content=False,
            redirect=False,
        )


def origin(url: str) -> str | None:
    """Scheme, host and port of a URL, as browsers write them; None if it has anything else, or is none."""
    try:
        parts = urllib3.util.parse_url(url)
    except LocationParseError:
        return None
    if parts.scheme not in ("http", "https") or not parts.host or parts.auth or parts.query:
        return None
    if (parts.path or "").strip("/"):
        return None
    port = "" if parts.port in (None, {"http": 80, "https": 443}[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{parts.host}{port}"


@contextmanager
def _reached() -> Iterator[None]:
    """What goes wrong on the way to the server, as Unreachable."""
    try:
        yield
    except (HTTPError, OSError) as error:
        raise Unreachable(error) from error


def _check(answer: Answer, *, may_fail_late: bool = False) -> None:
    """Raise Refused for an error; one may come with status 200, if the server had begun to answer before."""
    if answer.status < 300 and not (may_fail_late and b"<Error>" in answer.content[:300]):
        return
    name = answer.xml.findtext("{*}Code") if answer.content else None
    raise Refused(answer.status, name or f"with status {answer.status}")
