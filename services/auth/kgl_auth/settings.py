"""The settings of the auth service."""

from typing import Self

from pydantic import Field, SecretStr, model_validator

from kgl_auth.domain.group_roles import GroupRolesMap
from kgl_auth.domain.key_schedule import LONGEST_TOKEN
from kgl_auth.domain.oidc import BROWSER_CLIENT, OidcClient
from kgl_auth.domain.password_hashing import HashCost
from kgl_servicekit.settings import ServiceSettings

DAY = 24 * 3600


class AuthSettings(ServiceSettings):
    """What auth adds to the settings of every service. Times are seconds."""

    open_registration: bool | None = Field(
        default=None, description="whether anybody may make an account; by default only outside of production"
    )
    oidc_clients: tuple[OidcClient, ...] = Field(
        default=(), description="JSON list of clients of the built-in issuer, besides this site's own browser flow"
    )
    keycloak_client_id: str = Field(default="kgl-auth", description="the confidential client of this service")
    keycloak_client_secret: SecretStr | None = None
    keycloak_events_seconds: int = Field(default=15, ge=1, le=30, description="between two looks at its events")
    group_roles: GroupRolesMap = Field(
        default={}, description="JSON: what groups of Keycloak give; see domain/group_roles.py"
    )
    access_token_seconds: int = Field(default=300, ge=30, le=int(LONGEST_TOKEN.total_seconds()))
    session_seconds: int = Field(default=30 * DAY, description="after which a login ends, however much it is used")
    session_idle_seconds: int = Field(default=7 * DAY, description="after which an unused login ends")
    code_seconds: int = Field(default=60, ge=5, le=600)
    refresh_grace_seconds: int = Field(
        default=10, ge=0, le=60, description="in which a used refresh token is taken again, for concurrent twins"
    )
    login_attempts_per_minute: int = Field(default=10, ge=1, description="failures per account and client address")
    login_attempts_per_address: int = Field(default=100, ge=1, description="failures per client address, in a minute")
    registrations_per_minute: int = Field(default=10, ge=1, description="per client address")
    signing_key_seconds: int = Field(
        default=30 * DAY, ge=2 * 3600, description="after which a new signing key takes over from the present one"
    )
    audit_check_seconds: int = Field(default=3600, ge=1, description="rest between two checks of all audit chains")
    argon2_passes: int = Field(default=HashCost().passes, ge=1)
    argon2_memory_kib: int = Field(default=HashCost().memory_kib, ge=8)
    argon2_lanes: int = Field(default=HashCost().lanes, ge=1)

    @model_validator(mode="after")
    def _has_keycloaks_secret(self) -> Self:
        if self.identity == "keycloak" and not self.keycloak_secret:
            raise ValueError(
                "set KGL_KEYCLOAK_CLIENT_SECRET or KGL_KEYCLOAK_CLIENT_SECRET_FILE (KGL_IDENTITY is keycloak)"
            )
        return self

    @property
    def keycloak_secret(self) -> str:
        """The secret of our client at Keycloak."""
        return self.keycloak_client_secret.get_secret_value() if self.keycloak_client_secret else ""

    @property
    def registration_is_open(self) -> bool:
        """Whether anybody may make an account."""
        return self.env != "production" if self.open_registration is None else self.open_registration

    @property
    def hash_cost(self) -> HashCost:
        """What a password hash costs."""
        return HashCost(passes=self.argon2_passes, memory_kib=self.argon2_memory_kib, lanes=self.argon2_lanes)

    @property
    def secure_cookies(self) -> bool:
        """Whether browsers reach this site by https alone; then cookies have names that no other host can set."""
        return self.public_url.startswith("https://")

    @property
    def session_cookie(self) -> str:
        """Name of the login cookie."""
        return "__Host-kgl" if self.secure_cookies else "kgl_session"

    @property
    def form_cookie(self) -> str:
        """Name of the cookie that forms are bound to."""
        return "__Host-kgl-form" if self.secure_cookies else "kgl_form"

    @property
    def pending_cookie(self) -> str:
        """Name of the cookie that a login is remembered by while the browser is at the issuer."""
        return "__Host-kgl-login" if self.secure_cookies else "kgl_login"

    @property
    def own_issuer_url(self) -> str:
        """The `iss` of the built-in issuer."""
        return f"{self.public_url}/auth/v1/oidc"

    @property
    def callback_url(self) -> str:
        """Where the issuer sends browsers back to."""
        return f"{self.public_url}/auth/v1/callback"

    def oidc_client(self, client_id: str) -> OidcClient | None:
        """A client of the built-in issuer, by its id."""
        if client_id == BROWSER_CLIENT:
            return OidcClient(client_id=BROWSER_CLIENT, redirect_uris=(self.callback_url,))
        return next((client for client in self.oidc_clients if client.client_id == client_id), None)
