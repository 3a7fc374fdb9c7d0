"""OpenID Connect as the built-in issuer speaks it: clients, requests to authorize, and their errors."""

from typing import Literal, Self
from urllib.parse import urlencode, urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from kgl_auth.domain.pkce import is_challenge

SCOPES = ("openid", "profile", "email", "offline_access")
BROWSER_CLIENT = "kgl-browser"

AuthorizeError = Literal[
    "invalid_request",
    "unsupported_response_type",
    "invalid_scope",
    "login_required",
    "request_not_supported",
    "request_uri_not_supported",
]
TokenError = Literal["invalid_request", "invalid_client", "invalid_grant", "unsupported_grant_type"]


class OidcClient(BaseModel):
    """A public client of the issuer: it has no secret, and proves itself by PKCE and its exact redirect URIs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    client_id: str = Field(min_length=1, max_length=100)
    redirect_uris: tuple[str, ...] = Field(min_length=1)
    post_logout_redirect_uris: tuple[str, ...] = ()

    @field_validator("redirect_uris", "post_logout_redirect_uris")
    @classmethod
    def _absolute(cls, uris: tuple[str, ...]) -> tuple[str, ...]:
        for uri in uris:
            parts = urlsplit(uri)
            if not parts.scheme or parts.fragment or parts.scheme in {"javascript", "data", "vbscript"}:
                raise ValueError(f"{uri} is no absolute URI without a fragment")
        return uris


class AuthorizeRequest(BaseModel):
    """What a client asks at the authorization endpoint, as far as it could be trusted to be answered."""

    model_config = ConfigDict(frozen=True)

    client_id: str
    redirect_uri: str
    scope: str
    state: str | None = None
    nonce: str | None = None
    code_challenge: str

    @classmethod
    def read(cls, asked: dict[str, str], client: OidcClient) -> Self:
        """Check a request whose client and redirect URI are known to be right; raises AuthorizeRefused."""
        for name in ("request", "request_uri"):
            if name in asked:
                raise AuthorizeRefused(f"{name}_not_supported", f"{name} is not supported")  # type: ignore[arg-type]
        if asked.get("response_type") != "code":
            raise AuthorizeRefused("unsupported_response_type", "response_type must be code")
        if asked.get("response_mode", "query") != "query":
            raise AuthorizeRefused("invalid_request", "response_mode must be query")
        scopes = asked.get("scope", "").split()
        if "openid" not in scopes:
            raise AuthorizeRefused("invalid_scope", "scope must contain openid")
        if asked.get("code_challenge_method") != "S256" or not is_challenge(asked.get("code_challenge", "")):
            raise AuthorizeRefused("invalid_request", "code_challenge with code_challenge_method=S256 is required")
        if any(len(asked.get(name, "")) > 1000 for name in ("state", "nonce")):
            raise AuthorizeRefused("invalid_request", "state and nonce may have 1000 characters")
        if "none" in asked.get("prompt", "").split():
            raise AuthorizeRefused("login_required", "this issuer always asks its user")
        return cls(
            client_id=client.client_id,
            redirect_uri=asked["redirect_uri"],
            scope=" ".join(scope for scope in SCOPES if scope in scopes),
            state=asked.get("state"),
            nonce=asked.get("nonce"),
            code_challenge=asked["code_challenge"],
        )


class AuthorizeRefused(Exception):
    """The request cannot be granted; the client is told so at its redirect URI."""

    def __init__(self, error: AuthorizeError, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


def with_query(uri: str, **values: str | None) -> str:
    """The URI with these parameters added to its query; None leaves one out."""
    parts = urlsplit(uri)
    added = urlencode({name: value for name, value in values.items() if value is not None})
    return urlunsplit(parts._replace(query="&".join(part for part in (parts.query, added) if part)))


def authorization_url(
    endpoint: str, *, client_id: str, redirect_uri: str, state: str, nonce: str, code_challenge: str
) -> str:
    """Where our browser flow sends a browser to log in: a code, by PKCE, for who they are, their name and address."""
    return with_query(
        endpoint,
        response_type="code",
        client_id=client_id,
        redirect_uri=redirect_uri,
        scope="openid profile email",
        state=state,
        nonce=nonce,
        code_challenge=code_challenge,
        code_challenge_method="S256",
    )


def origin_of(uri: str) -> str:
    """Scheme, host and port of a web address; of another URI its scheme alone."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"
