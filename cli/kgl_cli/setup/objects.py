"""`kgl setup objects`: the bucket, and a user for each service with the rights that it needs.

KGL_S3_URL, _BUCKET (kgl-documents), _REGION (us-east-1), _CA, _PREFIX   as the services have them
KGL_S3_ADMIN_USER, KGL_S3_ADMIN_PASSWORD                                 the administrator
KGL_S3_SECRET_KEY_INGEST, _GRAPH, _CONTENT                               of the users `ingest`, `graph`, `content`

Every secret also as KGL_..._FILE. It may be run again at any time. Users are made on MinIO alone, as S3 itself has
none: on other servers they are the operator's to make, with the policies that this prints.
"""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import typer
from pydantic import Field, SecretStr

from kgl_cli.setup.objects_users import MinioUsers, policy_of, user_of
from kgl_cli.setup.telling import told
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.objects.port import ObjectExists
from kgl_servicekit.objects.s3 import NEW, S3Store
from kgl_servicekit.objects.s3_connection import Refused, S3Connection, Unreachable
from kgl_servicekit.objects.s3_multipart import uploading
from kgl_servicekit.objects.s3_settings import UNTRUSTED, check_settings, s3_connection, s3_prefix
from kgl_servicekit.settings import BUCKET, NotConfigured, Settings, settings_of

Tell = Callable[[str], None]
_PROBE = "kgl-setup"
_SHORTEST = 8  # characters of a secret that MinIO takes
_IGNORED = NotConfigured(
    "the server at KGL_S3_URL ignores If-None-Match, so that objects could be written over; take another or a newer one"
)


class ObjectsSetupSettings(Settings):
    """The administrator of the S3 server, and what the services' users shall have."""

    s3_url: str = Field(min_length=1)
    s3_bucket: str = Field(default="kgl-documents", pattern=BUCKET)
    s3_region: str = "us-east-1"
    s3_ca: Path | None = None
    s3_prefix: str = ""
    s3_admin_user: str = Field(min_length=1)
    s3_admin_password: SecretStr = Field(min_length=1)
    s3_secret_key_ingest: SecretStr = Field(min_length=_SHORTEST)
    s3_secret_key_graph: SecretStr = Field(min_length=_SHORTEST)
    s3_secret_key_content: SecretStr = Field(min_length=_SHORTEST)

    @property
    def secrets(self) -> dict[str, str]:
        """By service."""
        return {
            "ingest": self.s3_secret_key_ingest.get_secret_value(),
            "graph": self.s3_secret_key_graph.get_secret_value(),
            "content": self.s3_secret_key_content.get_secret_value(),
        }


async def setup(settings: ObjectsSetupSettings, tell: Tell) -> None:
    """Bring the server to what is wanted. Raises NotConfigured, Unavailable."""
    prefix = s3_prefix(settings.s3_prefix)
    connection = _connection(settings, settings.s3_bucket)
    try:
        await _make_bucket(connection, tell)
        await check_settings(connection, prefix)
        await _try_conditions(connection, prefix)
        await _make_users(connection, settings, prefix, tell)
    finally:
        await connection.close()


def _connection(settings: ObjectsSetupSettings, bucket: str) -> S3Connection:
    return s3_connection(
        settings.s3_url,
        settings.s3_ca,
        bucket=bucket,
        access_key=settings.s3_admin_user,
        secret_key=settings.s3_admin_password.get_secret_value(),
        region=settings.s3_region,
        public=settings.s3_url,
        user_setting="KGL_S3_ADMIN_USER",
        secret_setting="KGL_S3_ADMIN_PASSWORD",  # noqa: S106
    )


async def _make_bucket(connection: S3Connection, tell: Tell) -> None:
    try:
        await connection.request("HEAD")
    except Refused as refused:
        if refused.http_status != 404:
            return  # what is wrong is found by a request whose answer says it
    else:
        tell(f"bucket {connection.bucket} is there")
        return
    content = b""
    if connection.region != "us-east-1":
        place = f"<LocationConstraint>{connection.region}</LocationConstraint>"
        content = f"<CreateBucketConfiguration>{place}</CreateBucketConfiguration>".encode()
    try:
        await connection.request("PUT", content=content, content_sha256=hashlib.sha256(content).hexdigest())
    except Refused as refused:
        if refused.http_status >= 500:
            raise
        raise NotConfigured(f"the bucket of KGL_S3_BUCKET cannot be made: {refused.name}") from refused
    tell(f"bucket {connection.bucket} made")


async def _try_conditions(connection: S3Connection, prefix: str) -> None:
    """See that the server writes over no object, in one piece or in parts: that objects never change rests on it."""
    store = S3Store(connection, prefix=prefix)
    key = f"{prefix}/{_PROBE}" if prefix else _PROBE
    try:
        await store.put(_PROBE, b"one")
        with contextlib.suppress(ObjectExists):
            await store.put(_PROBE, b"two")
            raise _IGNORED
        async with uploading(connection, key, {}) as upload:
            await upload.send(_two())
            try:
                await upload.complete(NEW)
            except Refused as refused:
                if not refused.is_taken:
                    raise
            else:
                raise _IGNORED
    finally:
        await store.delete(_PROBE)


async def _two() -> AsyncIterator[bytes]:
    yield b"two"


async def _make_users(connection: S3Connection, settings: ObjectsSetupSettings, prefix: str, tell: Tell) -> None:
    policies = {service: policy_of(service, connection.bucket, prefix) for service in settings.secrets}
    if not await _is_minio(settings):
        tell("this is no MinIO: its users are yours to make, each with its policy")
        for service, policy in policies.items():
            tell(f"{service}: {json.dumps(policy)}")
        return
    users = MinioUsers(connection)
    for service, secret in settings.secrets.items():
        user = user_of(service, prefix)
        await asyncio.to_thread(users.make, user, secret, f"{connection.bucket}-{user}", policies[service])
        tell(f"user {user} has what {service} needs, and no more")


async def _is_minio(settings: ObjectsSetupSettings) -> bool:
    """Whether its own health page is there, which looks like an object of a bucket."""
    page = _connection(settings, "minio")
    try:
        await page.request("GET", "health/live")
    except Refused:
        return False
    finally:
        await page.close()
    return True


def run() -> None:
    """The command."""
    told(_setup)


async def _setup() -> None:
    try:
        await setup(settings_of(ObjectsSetupSettings), typer.echo)
    except Unavailable as out:
        untrusted = isinstance(out, Unreachable) and out.untrusted
        raise NotConfigured(UNTRUSTED if untrusted else f"KGL_S3_URL: {out.detail}") from out
