"""The users of the services on MinIO, and what each may do with the bucket; nothing else is MinIO's own here."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import urllib3
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException
from minio.minioadmin import MinioAdmin

from kgl_servicekit.errors import Unavailable
from kgl_servicekit.objects.s3_connection import S3Connection
from kgl_servicekit.settings import NotConfigured

_READ = ("s3:GetObject",)
_WRITE = (*_READ, "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
_RIGHTS: dict[str, dict[str, tuple[str, ...]]] = {
    "ingest": {"ingest/*": (*_WRITE, "s3:DeleteObject")},
    "graph": {"ingest/*/chunks/*": _READ, "graph/*": (*_WRITE, "s3:DeleteObject")},
    "content": {"graph/*/results/*": _READ},
}
_TIMEOUT = urllib3.Timeout(connect=5, read=30)


def user_of(service: str, prefix: str) -> str:
    """The name of a service's user; in a shared bucket the folder stands before it."""
    return f"{prefix.replace('/', '-')}-{service}" if prefix else service


def policy_of(service: str, bucket: str, prefix: str) -> dict[str, Any]:
    """What a service may do, in the language of S3's policies. Only who may list is told that an object is missing."""
    folder = f"{bucket}/{prefix}/" if prefix else f"{bucket}/"
    listing = ["s3:ListBucket", *(["s3:ListBucketMultipartUploads"] if _writes(service) else [])]
    statements = [(listing, bucket), *((actions, folder + keys) for keys, actions in _RIGHTS[service].items())]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": list(actions), "Resource": [f"arn:aws:s3:::{resource}"]}
            for actions, resource in statements
        ],
    }


def _writes(service: str) -> bool:
    return any("s3:PutObject" in actions for actions in _RIGHTS[service].values())


class MinioUsers:
    """The users of a MinIO; its calls block. Raises NotConfigured for what is refused, Unavailable."""

    def __init__(self, connection: S3Connection) -> None:
        ca = None if connection.ca is None else str(connection.ca)
        self._admin = MinioAdmin(
            endpoint=urlsplit(connection.url).netloc,
            credentials=StaticProvider(connection.access_key, connection.secret_key),
            secure=connection.url.startswith("https:"),
            http_client=urllib3.PoolManager(
                timeout=_TIMEOUT, retries=False, ssl_context=ssl.create_default_context(cafile=ca)
            ),
        )

    def make(self, user: str, secret: str, policy_name: str, policy: dict[str, Any]) -> None:
        """Have the user with this secret and this policy alone, whatever was there before."""
        with _told(user):
            self._admin.policy_add(policy_name, policy=policy)
            self._admin.user_add(user, secret)
            self._admin.policy_set(policy_name, user=user)


@contextmanager
def _told(user: str) -> Iterator[None]:
    try:
        yield
    except MinioAdminException as refused:
        raise NotConfigured(f"KGL_S3_ADMIN_USER cannot make the user {user}: {refused}") from refused
    except urllib3.exceptions.HTTPError as lost:
        raise Unavailable(f"The object store cannot be reached: {type(lost).__name__}.", retry_after=5) from lost
