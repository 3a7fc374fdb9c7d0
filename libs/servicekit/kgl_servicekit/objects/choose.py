"""Which object store the settings ask for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kgl_servicekit.objects.directory import DirectoryStore
from kgl_servicekit.objects.port import ObjectStore, is_key
from kgl_servicekit.objects.s3 import S3Store
from kgl_servicekit.objects.s3_connection import S3Connection, origin
from kgl_servicekit.settings import NotConfigured, ServiceSettings


def objects_of(settings: ServiceSettings, *, read_only: bool = False) -> ObjectStore:
    """The object store of one process. Nothing is connected yet. Raises NotConfigured."""
    if settings.object_store == "s3":
        return _s3(settings, read_only)
    if settings.object_dir is None:
        raise NotConfigured("set KGL_OBJECT_DIR to the folder of the object store, or KGL_OBJECT_STORE to s3")
    return DirectoryStore(settings.object_dir, read_only=read_only)


@asynccontextmanager
async def opened(objects: ObjectStore) -> AsyncIterator[None]:
    """The store, started."""
    await objects.start()
    try:
        yield
    finally:
        await objects.stop()


def s3_prefix(prefix: str) -> str:
    """The folder in the bucket, without slashes around it; raises NotConfigured."""
    inner = prefix.strip("/")
    if inner and not is_key(inner):
        raise NotConfigured("KGL_S3_PREFIX takes words of letters, digits, `.`, `_`, `-`, with `/` between")
    return inner


def s3_connection(url: str, ca: Path | None, **others: str) -> S3Connection:
    """A connection to a server as an operator has set it; `others` are as S3Connection has them. NotConfigured."""
    server = origin(url)
    if server is None:
        raise NotConfigured("set KGL_S3_URL to http(s)://host:port of the S3 server")
    try:
        return S3Connection(url=server, ca=ca, **others)  # type: ignore[arg-type]
    except OSError as error:
        raise NotConfigured(f"KGL_S3_CA names no file of certificates: {error}") from error


def _s3(settings: ServiceSettings, read_only: bool) -> ObjectStore:
    if not settings.s3_access_key:
        raise NotConfigured("set KGL_S3_ACCESS_KEY to the service's user on the S3 server")
    if not settings.s3_secret_key:
        raise NotConfigured("set KGL_S3_SECRET_KEY (or KGL_S3_SECRET_KEY_FILE) to that of KGL_S3_ACCESS_KEY")
    public = origin(settings.s3_public_url or settings.public_url)
    if public is None:
        raise NotConfigured("set KGL_S3_PUBLIC_URL to http(s)://host:port at which browsers reach the bucket")
    connection = s3_connection(
        settings.s3_url,
        settings.s3_ca,
        bucket=settings.s3_bucket,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        region=settings.s3_region,
        public=public,
    )
    return S3Store(connection, prefix=s3_prefix(settings.s3_prefix), read_only=read_only)
