"""Which object store the settings ask for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kgl_servicekit.objects.directory import DirectoryStore
from kgl_servicekit.objects.port import ObjectStore
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


def _s3(settings: ServiceSettings, read_only: bool) -> ObjectStore:
    # loaded here, so that a process on a directory does without the client library
    from kgl_servicekit.objects.s3 import S3Store
    from kgl_servicekit.objects.s3_connection import origin
    from kgl_servicekit.objects.s3_settings import s3_connection, s3_prefix

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
