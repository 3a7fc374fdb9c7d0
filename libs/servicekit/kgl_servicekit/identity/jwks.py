"""The issuer's signing keys (RFC 7517), fetched seldom and kept while the issuer is out."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import httpx
import orjson
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from loguru import logger

from kgl_servicekit.identity.problems import IdentityUnavailable

RETRY_SECONDS = 30.0
FRESH_SECONDS = 300.0
SMALLEST_KEY = 2048
_LARGEST_DOCUMENT = 256 * 1024
_MOST_KEYS = 50

KeySet = Mapping[str, RSAKey]


class JwksSource(Protocol):
    """Where the keys of tokens come from."""

    async def key(self, kid: str) -> RSAKey | None:
        """The key of this id, None when the issuer has none; raises Unavailable when that cannot be known."""
        ...


def signing_keys(document: Any) -> dict[str, RSAKey]:
    """The RSA signing keys of a JWKS document, by id; all others in it are of no use here."""
    keys: dict[str, RSAKey] = {}
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("the answer is no JWKS document")
    for jwk in listed[:_MOST_KEYS]:
        if not isinstance(jwk, dict) or jwk.get("kty") != "RSA" or not isinstance(jwk.get("kid"), str):
            continue
        if jwk.get("use", "sig") != "sig" or jwk.get("alg", "RS256") != "RS256":
            continue
        try:
            key = RSAKey.import_key({name: jwk[name] for name in ("kty", "n", "e")})
        except (JoseError, KeyError, ValueError, TypeError):
            continue
        if key.public_key.key_size >= SMALLEST_KEY:
            keys[jwk["kid"]] = key
    return keys


class CachedJwks:
    """Keys of a document that is fetched again every 5 minutes, and at most every 30 s for an unknown id.

    While it cannot be fetched the keys that are known go on; an id that is not among them is then neither
    valid nor invalid (Unavailable).
    """

    def __init__(self, fetch: Callable[[], Awaitable[Any]], clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: KeySet = {}
        self._asked_at = float("-inf")
        self._got_at = float("-inf")
        self._failed = True
        self._lock = asyncio.Lock()

    async def key(self, kid: str) -> RSAKey | None:
        # one request waits for a slow issuer; the others go on with what is known
        if kid in self._keys and (self._clock() - self._got_at < FRESH_SECONDS or self._lock.locked()):
            return self._keys[kid]
        async with self._lock:
            stale = self._clock() - self._got_at >= FRESH_SECONDS
            if (stale or kid not in self._keys) and self._clock() - self._asked_at >= RETRY_SECONDS:
                await self._refresh()
        found = self._keys.get(kid)
        if found is None and self._failed:
            raise IdentityUnavailable(retry_after=5)
        return found

    async def _refresh(self) -> None:
        self._asked_at = self._clock()
        self._failed = True
        try:
            keys = signing_keys(await self._fetch())
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            logger.bind(error=type(error).__name__).warning("jwks.fetch_failed")
            return
        # a key that has not changed stays the same object, so that tokens verified with it stay verified
        self._keys = {
            kid: known if (known := self._keys.get(kid)) is not None and known.as_dict() == key.as_dict() else key
            for kid, key in keys.items()
        }
        self._failed = False
        self._got_at = self._asked_at


def http_jwks(client: httpx.AsyncClient, url: str) -> CachedJwks:
    """The keys behind a URL. Redirects are not followed."""

    async def fetch() -> Any:
        async with client.stream("GET", url, timeout=3.0, follow_redirects=False) as response:
            if response.status_code != 200:
                raise ValueError(f"the issuer answered {response.status_code}")
            body = b""
            async for part in response.aiter_bytes():
                body += part
                if len(body) > _LARGEST_DOCUMENT:
                    raise ValueError("the JWKS document is too large")
        return orjson.loads(body)

    return CachedJwks(fetch)
