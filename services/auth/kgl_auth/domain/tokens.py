"""The tokens of the built-in issuer: their claims, and their signature (RS256)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

ALGORITHM = "RS256"
AUDIENCE = "kgl"
KEY_BITS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """An RSA key pair of the issuer, ready to sign; `kid` is its thumbprint (RFC 7638)."""

    kid: str
    private: RSAKey = field(repr=False)
    public: RSAKey

    @classmethod
    def load(cls, private_jwk: dict[str, Any]) -> "SigningKey":
        """The pair of a stored key. Checking it takes tens of milliseconds: do it once, and in a thread."""
        private = RSAKey.import_key(private_jwk)
        public = RSAKey.import_key({name: private_jwk[name] for name in ("kty", "n", "e")})
        return cls(kid=private.thumbprint(), private=private, public=public)

    @classmethod
    def generate(cls) -> "SigningKey":
        """A fresh pair; takes as long."""
        return cls.load(dict(RSAKey.generate_key(KEY_BITS).as_dict(private=True)))

    @property
    def private_jwk(self) -> dict[str, Any]:
        """What is stored."""
        return dict(self.private.as_dict(private=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a user has granted to a client: the source of all claims. Times are UTC."""

    session_id: str
    user_id: UUID
    email: str
    name: str
    client_id: str
    scope: str
    authenticated_at: datetime
    granted_at: datetime
    nonce: str | None = None


def access_claims(grant: Grant, *, issuer: str, lifetime: int, token_id: UUID) -> dict[str, Any]:
    """Claims of an access token (RFC 9068); `lifetime` in seconds."""
    at = int(grant.granted_at.timestamp())
    return {
        "iss": issuer,
        "sub": str(grant.user_id),
        "aud": AUDIENCE,
        "exp": at + lifetime,
        "iat": at,
        "nbf": at,
        "jti": str(token_id),
        "sid": grant.session_id,
        "azp": grant.client_id,
        "client_id": grant.client_id,
        "scope": grant.scope,
        "email": grant.email,
        "name": grant.name,
    }


def id_claims(grant: Grant, *, issuer: str, lifetime: int) -> dict[str, Any]:
    """Claims of an ID token (OpenID Connect Core, section 2); `lifetime` in seconds."""
    at = int(grant.granted_at.timestamp())
    claims = {
        "iss": issuer,
        "sub": str(grant.user_id),
        "aud": grant.client_id,
        "exp": at + lifetime,
        "iat": at,
        "auth_time": int(grant.authenticated_at.timestamp()),
        "sid": grant.session_id,
        "azp": grant.client_id,
    }
    if grant.nonce is not None:
        claims["nonce"] = grant.nonce
    return claims | profile_claims(grant.scope, grant.email, grant.name)


def profile_claims(scope: str, email: str, name: str) -> dict[str, Any]:
    """The claims about a person that a scope lets a client see. Addresses are not verified by mail."""
    scopes = scope.split()
    claims: dict[str, Any] = {}
    if "email" in scopes:
        claims |= {"email": email, "email_verified": False}
    if "profile" in scopes:
        claims["name"] = name
    return claims


def sign(claims: dict[str, Any], key: SigningKey, *, kind: str) -> str:
    """A JWT in compact form; `kind` is its `typ` header."""
    header = {"alg": ALGORITHM, "kid": key.kid, "typ": kind}
    return jwt.encode(header, claims, key.private, algorithms=[ALGORITHM])


def read_id_token(token: str, keys: Mapping[str, RSAKey], *, issuer: str) -> dict[str, Any] | None:
    """The claims of an ID token of ours, even of an expired one; None when we did not sign it."""
    try:
        decoded = jwt.decode(token, lambda signed: keys[str(signed.headers().get("kid"))], algorithms=[ALGORITHM])
    except (JoseError, ValueError, KeyError):
        return None
    if decoded.header.get("typ") != "JWT" or decoded.claims.get("iss") != issuer:
        return None
    return dict(decoded.claims)
