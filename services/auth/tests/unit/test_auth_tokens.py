"""Claims and signatures of the built-in issuer."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from kgl_auth.domain.tokens import Grant, SigningKey, access_claims, id_claims, read_id_token, sign
from kgl_servicekit.identity.credential import AccessToken
from kgl_servicekit.identity.problems import TokenInvalid
from kgl_servicekit.identity.tokens import TokenVerifier

ISSUER = "http://localhost:8080/auth/v1/oidc"
AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
USER = UUID("0198f3a0-0000-7000-8000-000000000011")
GRANT = Grant(
    session_id="s-1",
    user_id=USER,
    email="ada@example.com",
    name="Ada",
    client_id="app",
    scope="openid email profile",
    authenticated_at=AT,
    granted_at=AT,
    nonce="n-1",
)
KEY, OTHER = SigningKey.generate(), SigningKey.generate()
PUBLIC = KEY.public


class OneKey:
    """A source of the one key."""

    async def key(self, kid: str) -> RSAKey | None:
        return PUBLIC if kid == KEY.kid else None


def test_the_key_is_named_by_its_thumbprint_and_its_public_half_tells_no_secret() -> None:
    assert KEY.kid == KEY.private.thumbprint() == PUBLIC.thumbprint()
    assert SigningKey.load(KEY.private_jwk).kid == KEY.kid
    assert set(PUBLIC.as_dict()) == {"kty", "n", "e"}
    assert str(KEY.private_jwk["d"]) not in repr(KEY)
    assert PUBLIC.public_key.key_size == 2048


def test_an_access_token_says_who_where_for_whom_and_until_when() -> None:
    claims = access_claims(GRANT, issuer=ISSUER, lifetime=300, token_id=UUID(int=1))
    now = int(AT.timestamp())
    assert claims == {
        "iss": ISSUER,
        "sub": str(USER),
        "aud": "kgl",
        "exp": now + 300,
        "iat": now,
        "nbf": now,
        "jti": str(UUID(int=1)),
        "sid": "s-1",
        "azp": "app",
        "client_id": "app",
        "scope": "openid email profile",
        "email": "ada@example.com",
        "name": "Ada",
    }


def test_an_id_token_is_for_the_client_and_tells_what_its_scope_allows() -> None:
    claims = id_claims(GRANT, issuer=ISSUER, lifetime=300)
    assert (claims["aud"], claims["nonce"], claims["sid"]) == ("app", "n-1", "s-1")
    assert claims["auth_time"] == int(AT.timestamp())
    assert (claims["email"], claims["email_verified"], claims["name"]) == ("ada@example.com", False, "Ada")
    bare = id_claims(replace(GRANT, scope="openid", nonce=None), issuer=ISSUER, lifetime=300)
    assert not {"email", "name", "nonce"} & bare.keys()


async def test_every_service_verifies_the_access_token_and_refuses_the_id_token() -> None:
    verifier = TokenVerifier(OneKey(), ISSUER, now=AT.timestamp)
    access = access_claims(GRANT, issuer=ISSUER, lifetime=300, token_id=UUID(int=1))
    claims = await verifier.verify(AccessToken(sign(access, KEY, kind="at+jwt")))
    assert (claims.user_id, claims.session_id) == (USER, "s-1")
    identity = sign(id_claims(GRANT, issuer=ISSUER, lifetime=300), KEY, kind="JWT")
    with pytest.raises(TokenInvalid):
        await verifier.verify(AccessToken(identity))


def test_the_header_names_algorithm_key_and_type() -> None:
    token = sign({"sub": "x"}, KEY, kind="at+jwt")
    assert jwt.decode(token, PUBLIC, algorithms=["RS256"]).header == {"alg": "RS256", "kid": KEY.kid, "typ": "at+jwt"}


def test_only_an_id_token_of_this_issuer_is_read_as_one_even_when_it_has_expired() -> None:
    keys, old = {KEY.kid: PUBLIC}, id_claims(GRANT, issuer=ISSUER, lifetime=1)
    assert read_id_token(sign(old, KEY, kind="JWT"), keys, issuer=ISSUER) == old
    assert read_id_token(sign(old, KEY, kind="at+jwt"), keys, issuer=ISSUER) is None
    assert read_id_token(sign(old, KEY, kind="JWT"), keys, issuer="https://other.example") is None
    assert read_id_token(sign(old, OTHER, kind="JWT"), keys, issuer=ISSUER) is None
    forged = replace(OTHER, kid=KEY.kid)
    assert read_id_token(sign(old, forged, kind="JWT"), keys, issuer=ISSUER) is None
    for text in ("", "a.b.c", "no token"):
        assert read_id_token(text, keys, issuer=ISSUER) is None
