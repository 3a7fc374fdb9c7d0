"""What OpenID clients read first: discovery (OpenID Connect Discovery 1.0) and keys (RFC 7517)."""

from typing import Any

from kgl_auth.domain.oidc import SCOPES
from kgl_auth.outside import Outside
from kgl_servicekit.http import PUBLIC, ApiRouter

router = ApiRouter(prefix="/oidc", tags=["openid"])


@router.get("/.well-known/openid-configuration", permission=PUBLIC, cache=300)
async def discovery(outside: Outside) -> dict[str, Any]:
    """Where everything is, and what this issuer can do."""
    issuer = outside.settings.issuer_url
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "userinfo_endpoint": f"{issuer}/userinfo",
        "jwks_uri": f"{issuer}/jwks",
        "end_session_endpoint": f"{issuer}/logout",
        "scopes_supported": list(SCOPES),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "code_challenge_methods_supported": ["S256"],
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "sid", "email", "name"],
        "authorization_response_iss_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "claims_parameter_supported": False,
    }


@router.get("/jwks", permission=PUBLIC, cache=300)
async def jwks(outside: Outside) -> dict[str, Any]:
    """The public keys that tokens are verified with."""
    return await outside.issuer.keys.jwks()
