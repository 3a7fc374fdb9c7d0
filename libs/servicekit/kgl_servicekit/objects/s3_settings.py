"""A connection as an operator has set it, and what is wrong with it by what the server says to a first request."""

from pathlib import Path

from kgl_servicekit.objects.port import is_key
from kgl_servicekit.objects.s3_connection import Refused, S3Connection, Unreachable, origin
from kgl_servicekit.settings import NotConfigured

UNTRUSTED = "KGL_S3_CA does not vouch for the certificate of KGL_S3_URL"
_WRONG = {
    "InvalidAccessKeyId": "{user} is refused: the server at KGL_S3_URL does not know it",
    "SignatureDoesNotMatch": "{secret} (or {secret}_FILE) is not that of {user}",
    "AccessDenied": "{user} has no rights on the bucket of KGL_S3_BUCKET; `kgl setup objects` gives them",
    "NoSuchBucket": "KGL_S3_BUCKET is refused: there is no such bucket; `kgl setup objects` makes it",
    "RequestTimeTooSkewed": "the clock of this machine and that of the server at KGL_S3_URL differ too much",
    "AuthorizationHeaderMalformed": "KGL_S3_REGION is not that of the server at KGL_S3_URL",
    "PermanentRedirect": "KGL_S3_REGION or KGL_S3_URL is not that of the bucket of KGL_S3_BUCKET",
}


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


async def check_settings(connection: S3Connection, prefix: str) -> None:
    """See that the bucket can be listed; raises NotConfigured, and Unavailable when the server is away."""
    try:
        await connection.request("GET", query={"list-type": "2", "max-keys": "1", "prefix": prefix})
    except Refused as refused:
        if refused.http_status >= 500:
            raise
        sentence = _WRONG.get(refused.name, "KGL_S3_URL answers {code}")
        told = sentence.format(user=connection.user_setting, secret=connection.secret_setting, code=refused.name)
        raise NotConfigured(told) from refused
    except Unreachable as unreachable:
        if not unreachable.untrusted:
            raise
        raise NotConfigured(UNTRUSTED) from unreachable
