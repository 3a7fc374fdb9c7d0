"""The object store is chosen by settings, and what is missing is named."""

from pathlib import Path

import pytest

from kgl_servicekit.objects.choose import objects_of, opened
from kgl_servicekit.objects.directory import DirectoryStore
from kgl_servicekit.objects.s3 import S3Store
from kgl_servicekit.settings import NotConfigured, ServiceSettings

S3 = {"object_store": "s3", "s3_url": "http://minio:9000", "s3_access_key": "ingest", "s3_secret_key": "secret"}


def settings(**values: object) -> ServiceSettings:
    return ServiceSettings(env="test", database_url="postgresql:///none", **values)  # type: ignore[arg-type]


async def test_a_directory_by_default(tmp_path: Path) -> None:
    store = objects_of(settings(object_dir=tmp_path / "objects"))
    assert isinstance(store, DirectoryStore)
    async with opened(store):
        await store.put("k", b"x")
    with pytest.raises(PermissionError):
        await objects_of(settings(object_dir=tmp_path), read_only=True).put("k", b"x")


async def test_s3_when_asked_for() -> None:
    store = objects_of(settings(**S3, s3_prefix="/a/b/"), read_only=True)
    assert isinstance(store, S3Store)
    assert (store.link("k", 60, name="n") or "").startswith("http://localhost:8080/kgl-documents/a/b/k?")
    with pytest.raises(PermissionError):
        await store.put("k", b"x")
    with pytest.raises(PermissionError):
        await store.delete("k")
    elsewhere = objects_of(settings(**S3, s3_public_url="https://s3.example.org"))
    assert (elsewhere.link("k", 60, name="n") or "").startswith("https://s3.example.org/kgl-documents/k?")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "set KGL_OBJECT_DIR"),
        ({**S3, "s3_url": ""}, "set KGL_S3_URL"),
        ({**S3, "s3_url": "minio:9000"}, "set KGL_S3_URL"),
        ({**S3, "s3_url": "http://minio/path"}, "set KGL_S3_URL"),
        ({**S3, "s3_url": "http://minio:port"}, "set KGL_S3_URL"),
        ({**S3, "s3_access_key": None}, "set KGL_S3_ACCESS_KEY"),
        ({**S3, "s3_secret_key": ""}, "set KGL_S3_SECRET_KEY"),
        ({**S3, "s3_public_url": "minio"}, "set KGL_S3_PUBLIC_URL"),
        ({**S3, "s3_prefix": "a b"}, "KGL_S3_PREFIX"),
        ({**S3, "s3_url": "https://minio:9000", "s3_ca": "/nonexistent"}, "KGL_S3_CA"),
        ({**S3, "s3_url": "https://minio:9000", "s3_ca": __file__}, "KGL_S3_CA"),
    ],
)
def test_what_is_missing_or_wrong_is_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(NotConfigured, match=said):
        objects_of(settings(**values))
