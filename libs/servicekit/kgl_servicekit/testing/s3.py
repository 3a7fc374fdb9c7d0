"""A bucket in memory behind the requests of S3, for tests: what S3Store needs of a server, and faults at will."""

import hashlib
import io
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import urllib3

from kgl_servicekit.objects.s3 import S3Store
from kgl_servicekit.objects.s3_connection import Request, S3Connection
from kgl_servicekit.objects.s3_signature import Signer
from kgl_servicekit.testing.servers import Login

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_STATUS = {"NoSuchKey": 404, "NoSuchBucket": 404, "NoSuchUpload": 404, "PreconditionFailed": 412, "InvalidRange": 416}


class S3Fault(Exception):
    """What the server refuses; most have status 403."""

    def __init__(self, name: str, status: int | None = None) -> None:
        super().__init__(name)
        self.name = name
        self.status = status or _STATUS.get(name, 403)


@dataclass(slots=True)
class Stored:
    """An object, or an upload in parts that will be one."""

    key: str
    headers: dict[str, str]
    content: bytes = b""
    parts: dict[int, bytes] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class S3ForTests:
    """One bucket and one user; `fault`, given a request, may raise S3Fault or an error of the way to the server."""

    bucket: str = "bucket"
    access_key: str = "user"
    secret_key: str = "secret"  # noqa: S105
    page: int = 2
    fault: Callable[[Request], None] = lambda request: None
    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, Stored] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    _ids: "count[int]" = field(default_factory=count)

    def connection(self, **changed: str) -> S3Connection:
        """A connection of its user; `changed` replaces what is right."""
        right = {
            "url": "http://s3.test:9000",
            "bucket": self.bucket,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "region": "us-east-1",
            "public": "https://kgl.test",
        }
        return S3Connection(**{**right, **changed}, send=self.answer)  # type: ignore[arg-type]

    def store(self, *, prefix: str = "", read_only: bool = False) -> S3Store:
        """A store of its user."""
        return S3Store(self.connection(), prefix=prefix, read_only=read_only)

    def answer(self, request: Request) -> urllib3.HTTPResponse:
        """What the server says."""
        self.asked.append((request.method, urlsplit(request.url).path))
        try:
            self.fault(request)
            self._authenticate(request)
            bucket, _, key = urlsplit(request.url).path.removeprefix("/").partition("/")
            if bucket != self.bucket:
                raise S3Fault("NoSuchBucket")
            query = query_in(request)
            return self._of_object(request, key, query) if key else self._of_bucket(request, query)
        except S3Fault as refused:
            body = b"" if request.method == "HEAD" else f"<Error><Code>{refused.name}</Code></Error>".encode()
            return _response(refused.status, body)

    def _authenticate(self, request: Request) -> None:
        sent = request.headers["authorization"]
        if f"Credential={self.access_key}/" not in sent:
            raise S3Fault("InvalidAccessKeyId")
        if request.headers["x-amz-content-sha256"] != hashlib.sha256(request.content).hexdigest():
            raise S3Fault("XAmzContentSHA256Mismatch", 400)
        names = sent.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        signed = Signer(self.access_key, self.secret_key, "us-east-1").signed(
            request.method,
            request.headers["host"],
            urlsplit(request.url).path,
            query_in(request),
            {name: request.headers[name] for name in names},
            request.headers["x-amz-content-sha256"],
            datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
        )
        if signed["authorization"] != sent:
            raise S3Fault("SignatureDoesNotMatch")

    def _of_bucket(self, request: Request, query: dict[str, str]) -> urllib3.HTTPResponse:
        if request.method == "HEAD":
            return _response(200)
        if "uploads" in query:
            return self._listed_uploads(query)
        after = query.get("continuation-token", "")
        keys = sorted(key for key in self.objects if key.startswith(query["prefix"]) and key > after)
        shown = [self.objects[key] for key in keys[: self.page]]
        rows = [
            ("Contents", {"Key": each.key, "Size": str(len(each.content)), "LastModified": _zulu(each.at)})
            for each in shown
        ]
        more = {"NextContinuationToken": shown[-1].key} if len(keys) > self.page else {}
        return _document("ListBucketResult", more, rows)

    def _listed_uploads(self, query: dict[str, str]) -> urllib3.HTTPResponse:
        after = query.get("upload-id-marker", "")
        ids = sorted(id for id in self.uploads if id > after)
        shown = ids[: self.page]
        rows = [
            ("Upload", {"Key": each.key, "UploadId": id, "Initiated": _zulu(each.at)})
            for id, each in self.uploads.items()
            if id in shown
        ]
        more = {"IsTruncated": "true" if len(ids) > self.page else "false"}
        if len(ids) > self.page:
            more |= {"NextKeyMarker": self.uploads[shown[-1]].key, "NextUploadIdMarker": shown[-1]}
        return _document("ListMultipartUploadsResult", more, rows)

    def _of_object(self, request: Request, key: str, query: dict[str, str]) -> urllib3.HTTPResponse:
        if "uploads" in query or "uploadId" in query:
            return self._of_upload(request, key, query)
        if request.method == "PUT":
            self._create(request, Stored(key, _kept(request), request.content))
            return _response(200)
        if request.method == "DELETE":
            self.objects.pop(key, None)
            return _response(204)
        found = self.objects.get(key)
        if found is None:
            raise S3Fault("NoSuchKey")
        headers = {**found.headers, "content-length": str(len(found.content))}
        if request.method == "HEAD":
            return _response(200, b"", headers)
        first = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if first and first >= len(found.content):
            raise S3Fault("InvalidRange")
        rest = found.content[first:]
        headers["content-length"] = str(len(rest))
        return _response(206 if first else 200, rest, headers)

    def _of_upload(self, request: Request, key: str, query: dict[str, str]) -> urllib3.HTTPResponse:
        if "uploads" in query:
            id = f"{next(self._ids):09}"
            self.uploads[id] = Stored(key, _kept(request))
            return _document("InitiateMultipartUploadResult", {"UploadId": id})
        if query["uploadId"] not in self.uploads:
            raise S3Fault("NoSuchUpload")
        if request.method == "DELETE":
            del self.uploads[query["uploadId"]]
            return _response(204)
        upload = self.uploads[query["uploadId"]]
        if request.method == "PUT":
            upload.parts[int(query["partNumber"])] = request.content
            return _response(200, b"", {"etag": f'"{hashlib.md5(request.content).hexdigest()}"'})  # noqa: S324
        wanted = [int(number.text or "") for number in ElementTree.fromstring(request.content).iter("PartNumber")]  # noqa: S314
        whole = b"".join(upload.parts[number] for number in wanted)
        self._create(request, Stored(key, upload.headers, whole))
        del self.uploads[query["uploadId"]]
        return _document("CompleteMultipartUploadResult", {})

    def _create(self, request: Request, made: Stored) -> None:
        if request.headers.get("if-none-match") == "*" and made.key in self.objects:
            raise S3Fault("PreconditionFailed")
        self.objects[made.key] = made


@asynccontextmanager
async def bucket_on(server: Login) -> AsyncIterator[S3Connection]:
    """A bucket of its own on a real server, as its administrator; it is removed in the end, with all that is in it."""
    connection = S3Connection(
        url=server.url,
        bucket=f"kgl-test-{uuid4().hex[:12]}",
        access_key=server.user,
        secret_key=server.password,
        region="us-east-1",
        public=server.url,
    )
    await connection.request("PUT")
    try:
        yield connection
    finally:
        store = S3Store(connection)
        async for entry in store.listed(""):
            await store.delete(entry.key)
        await connection.request("DELETE")
        await connection.close()


def query_in(request: Request) -> dict[str, str]:
    """The query of a request."""
    return dict(parse_qsl(urlsplit(request.url).query, keep_blank_values=True))


def _response(status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> urllib3.HTTPResponse:
    return urllib3.HTTPResponse(io.BytesIO(content), status=status, headers=headers, preload_content=False)


def _kept(request: Request) -> dict[str, str]:
    names = [name for name in request.headers if name.startswith("x-amz-meta-") or name == "content-type"]
    return {name: request.headers[name] for name in names}


def _zulu(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def _document(
    name: str, fields: dict[str, str], rows: Iterable[tuple[str, dict[str, str]]] = ()
) -> urllib3.HTTPResponse:
    body = _elements(fields) + "".join(f"<{row}>{_elements(values)}</{row}>" for row, values in rows)
    return _response(200, f'<{name} xmlns="{_NAMESPACE}">{body}</{name}>'.encode())


def _elements(fields: dict[str, str]) -> str:
    return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
