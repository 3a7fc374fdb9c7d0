"""Access tokens: verified here, with the issuer's keys (RFC 7519, RFC 8725, RFC 9068; Keycloak's own marks).

Only RS256 is known, whatever a token says of itself; the key is chosen by `kid` among the issuer's keys, and
a token that brings a key or the address of one is refused without a look at it.
"""

import binascii
import hashlib
import json
import math
import re
import time
from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from kgl_servicekit.identity.cache_meter import CacheMeter
from kgl_servicekit.identity.credential import AccessToken
from kgl_servicekit.identity.jwks import JwksSource
from kgl_servicekit.identity.problems import TokenExpired, TokenInvalid

ALGORITHM = "RS256"
AUDIENCE = "kgl"
TYPE = "at+jwt"
LEEWAY_SECONDS = 30
LONGEST_LIFE_SECONDS = 24 * 3600

_CACHED = 10_000
_HEADER = frozenset({"alg", "typ", "kid"})
_KID = re.compile(r"[A-Za-z0-9_.=-]{1,128}", re.ASCII)
_LONGEST_HEADER = 512


@dataclass(frozen=True, slots=True)
class TokenMarks:
    """How an issuer tells its access tokens from all else that it signs: header `typ`, and claim `typ` if any."""

    header: frozenset[str]
    claim: str | None = None


RFC9068 = TokenMarks(frozenset({TYPE, f"application/{TYPE}"}))
KEYCLOAK = TokenMarks(frozenset({"jwt", *RFC9068.header}), "Bearer")
"""Its ID tokens have the same header; their claim is `ID`, that of refresh tokens `Refresh`."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says: the user, the login session, its end and its beginning (Unix seconds)."""

    user_id: UUID
    session_id: str | None
    expires_at: float
    issued_at: float


@dataclass(frozen=True, slots=True)
class _Verified:
    claims: Claims
    kid: str
    key: RSAKey


class TokenVerifier:
    """Verifies the access tokens of one issuer.

    A token that was verified is known again by the hash of all of it, until it expires or its key is no
    longer the issuer's. `marks` are those of its access tokens. `clients` limits the `azp` of tokens; None
    takes those of every client.
    """

    def __init__(
        self,
        keys: JwksSource,
        issuer: str,
        *,
        marks: TokenMarks = RFC9068,
        clients: frozenset[str] | None = None,
        now: Callable[[], float] = time.time,
        size: int = _CACHED,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._marks = marks
        self._clients = clients
        self._now = now
        self._size = size
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._meter = CacheMeter("verified_tokens")

    async def verify(self, token: AccessToken) -> Claims:
        """The claims of a valid token.

        Raises TokenInvalid, TokenExpired; Unavailable when the issuer's keys cannot be had.
        """
        name = hashlib.sha256(token.text.encode()).digest()
        known = self._verified.get(name)
        if known is not None and await self._keys.key(known.kid) is known.key:
            if known.claims.expires_at <= self._now():
                self._verified.pop(name, None)
                self._meter.holds(len(self._verified))
                raise TokenExpired
            self._meter.hit()
            return known.claims
        self._meter.miss()
        kid = _kid_of(token.text, self._marks.header)
        key = await self._keys.key(kid)
        if key is None:
            raise TokenInvalid
        claims = self._claims(_payload(token.text, key))
        self._verified[name] = _Verified(claims, kid, key)
        if len(self._verified) > self._size:
            self._verified.popitem(last=False)
        self._meter.holds(len(self._verified))
        return claims

    def __len__(self) -> int:
        return len(self._verified)

    def _claims(self, payload: dict[str, Any]) -> Claims:
        now = self._now()
        expires_at, issued_at = _time(payload, "exp"), _time(payload, "iat")
        not_before = _time(payload, "nbf") if "nbf" in payload else issued_at
        if payload.get("iss") != self._issuer or not _is_for_us(payload.get("aud")):
            raise TokenInvalid
        if self._marks.claim is not None and payload.get("typ") != self._marks.claim:
            raise TokenInvalid
        if self._clients is not None and payload.get("azp") not in self._clients:
            raise TokenInvalid
        if max(issued_at, not_before) > now + LEEWAY_SECONDS or expires_at > now + LONGEST_LIFE_SECONDS:
            raise TokenInvalid
        if expires_at <= now:
            raise TokenExpired
        session = payload.get("sid")
        if session is not None and not (isinstance(session, str) and 0 < len(session) <= 255):
            raise TokenInvalid
        return Claims(_subject(payload), session, expires_at, issued_at)


def _kid_of(token: str, types: frozenset[str]) -> str:
    """The key id of a token whose header is exactly what we take; nothing else in it is followed."""
    encoded = token.partition(".")[0]
    if len(encoded) > _LONGEST_HEADER:
        raise TokenInvalid
    try:
        header = json.loads(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)), object_pairs_hook=_without_repeats)
    except (ValueError, binascii.Error, RecursionError) as wrong:
        raise TokenInvalid from wrong
    if not isinstance(header, dict) or not header.keys() <= _HEADER or header.get("alg") != ALGORITHM:
        raise TokenInvalid
    kind, kid = header.get("typ"), header.get("kid")
    if not isinstance(kind, str) or kind.lower() not in types:
        raise TokenInvalid
    if not isinstance(kid, str) or _KID.fullmatch(kid) is None:
        raise TokenInvalid
    return kid


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is repeated")
    return members


def _payload(token: str, key: RSAKey) -> dict[str, Any]:
    try:
        return jwt.decode(token, key, algorithms=[ALGORITHM]).claims
    except (JoseError, ValueError, RecursionError) as wrong:
        raise TokenInvalid from wrong


def _time(payload: dict[str, Any], name: str) -> float:
    value = payload.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenInvalid
    try:
        seconds = float(value)
    except OverflowError as wrong:
        raise TokenInvalid from wrong
    if not math.isfinite(seconds):
        raise TokenInvalid
    return seconds


def _is_for_us(audience: Any) -> bool:
    return audience == AUDIENCE or (isinstance(audience, list) and AUDIENCE in audience)


def _subject(payload: dict[str, Any]) -> UUID:
    subject = payload.get("sub")
    try:
        return UUID(subject if isinstance(subject, str) and len(subject) == 36 else "")
    except ValueError as wrong:
        raise TokenInvalid from wrong
