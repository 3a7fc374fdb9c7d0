"""What an operator has set wrong, by what an S3 server says to a first request."""

from kgl_servicekit.objects.s3_connection import Refused, S3Connection, Unreachable
from kgl_servicekit.settings import NotConfigured

_WRONG = {
    "InvalidAccessKeyId": "{user} is refused: the server at KGL_S3_URL does not know it",
    "SignatureDoesNotMatch": "{secret} (or {secret}_FILE) is not that of {user}",
    "AccessDenied": "{user} has no rights on the bucket of KGL_S3_BUCKET; `kgl setup objects` gives them",
    "NoSuchBucket": "KGL_S3_BUCKET is refused: there is no such bucket; `kgl setup objects` makes it",
    "RequestTimeTooSkewed": "the clock of this machine and that of the server at KGL_S3_URL differ too much",
    "AuthorizationHeaderMalformed": "KGL_S3_REGION is not that of the server at KGL_S3_URL",
    "PermanentRedirect": "KGL_S3_REGION or KGL_S3_URL is not that of the bucket of KGL_S3_BUCKET",
}


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
        raise NotConfigured("KGL_S3_CA does not vouch for the certificate of KGL_S3_URL") from unreachable
