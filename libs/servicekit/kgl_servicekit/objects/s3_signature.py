"""Requests to S3 are signed with AWS Signature Version 4.

Source: docs.aws.amazon.com/AmazonS3/latest/API, "Authenticating Requests (AWS Signature Version 4)". Paths are
signed as they are sent, so they consist of characters that need no escape.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

NO_CONTENT = hashlib.sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs, for the servers of one region."""

    access_key: str
    secret_key: str = field(repr=False)
    region: str

    def signed(
        self,
        method: str,
        host: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        content_sha256: str,
        at: datetime,
    ) -> dict[str, str]:
        """All headers of a request, the given ones included; each of them is signed."""
        sent = {
            "host": host,
            "x-amz-content-sha256": content_sha256,
            "x-amz-date": _time(at),
            **{name.lower(): value for name, value in headers.items()},
        }
        names = ";".join(sorted(sent))
        signature = self._signature(_canonical(method, path, query_of(query), sent, content_sha256), at)
        credential = f"{self.access_key}/{self._scope(at)}"
        return sent | {
            "authorization": f"{_ALGORITHM} Credential={credential},SignedHeaders={names},Signature={signature}"
        }

    def link(self, method: str, url: str, path: str, query: Mapping[str, str], seconds: int, at: datetime) -> str:
        """A URL below `url` (scheme and host) that lets whoever has it make this one request for so long."""
        asked = {
            **query,
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self.access_key}/{self._scope(at)}",
            "X-Amz-Date": _time(at),
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": "host",
        }
        host = url.partition("://")[2]
        canonical = _canonical(method, path, query_of(asked), {"host": host}, "UNSIGNED-PAYLOAD")
        return f"{url}{path}?{query_of(asked)}&X-Amz-Signature={self._signature(canonical, at)}"

    def _scope(self, at: datetime) -> str:
        return f"{at:%Y%m%d}/{self.region}/s3/aws4_request"

    def _signature(self, canonical: str, at: datetime) -> str:
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        key = f"AWS4{self.secret_key}".encode()
        for part in self._scope(at).split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        text = f"{_ALGORITHM}\n{_time(at)}\n{self._scope(at)}\n{digest}"
        return hmac.digest(key, text.encode(), "sha256").hex()


def query_of(query: Mapping[str, str]) -> str:
    """The query as it is signed and sent: sorted, and escaped where RFC 3986 wants it."""
    return "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in sorted(query.items()))


def _canonical(method: str, path: str, query: str, headers: Mapping[str, str], content_sha256: str) -> str:
    lines = "".join(f"{name}:{value.strip()}\n" for name, value in sorted(headers.items()))
    return f"{method}\n{path}\n{query}\n{lines}\n{';'.join(sorted(headers))}\n{content_sha256}"


def _time(at: datetime) -> str:
    return f"{at:%Y%m%dT%H%M%SZ}"
