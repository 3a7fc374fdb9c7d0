"""The settings that all services have; each service adds its own in one frozen subclass."""

import os
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "KGL_"
BUCKET = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
"""What may be the name of a bucket."""


class NotConfigured(Exception):
    """A setting is missing or wrong; the sentence names it and says what to do."""


def _secrets_from_files(fields: set[str]) -> dict[str, Any]:
    """Values of `KGL_<NAME>_FILE`: the path of a file that holds the value."""
    found = {}
    for name in fields:
        if path := os.environ.get(f"{PREFIX}{name.upper()}_FILE"):
            found[name] = Path(path).read_text().strip()
    return found


S = TypeVar("S", bound="Settings")
_GUESSED = frozenset({"", "admin", "changeme", "kgl", "minioadmin", "password", "postgres", "secret", "test"})


class Settings(BaseSettings):
    """Settings from the environment: `KGL_<NAME>`, or `KGL_<NAME>_FILE` with the path of a file that holds it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    def __init__(self, **values: Any) -> None:
        super().__init__(**{**_secrets_from_files(set(type(self).model_fields)), **values})


class ServiceSettings(Settings):
    """What all services are told. Sizes are bytes, times are seconds."""

    env: Literal["development", "test", "production"] = "production"
    public_url: str = "http://localhost:8080"
    database_url: SecretStr = Field(description="the service's role on its own database")
    database_owner_url: SecretStr | None = Field(default=None, description="the owner's role, for migrations")
    bus: Literal["postgres", "kafka"] = "postgres"
    bus_url: SecretStr | None = Field(default=None, description="postgresql://... of the postgres transport")
    kafka_bootstrap: str = Field(default="", description="host:port,... of some brokers")
    kafka_user: str | None = Field(default=None, description="login by SASL; none without")
    kafka_password: SecretStr | None = None
    kafka_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = "SCRAM-SHA-512"
    kafka_tls: bool = Field(default=False, description="encrypt; implied by kafka_ca")
    kafka_ca: Path | None = Field(default=None, description="certificates to trust, instead of the system's")
    kafka_prefix: str = Field(default="", description="stands before the names of topics and groups")
    object_store: Literal["directory", "s3"] = "directory"
    object_dir: Path | None = Field(default=None, description="root of the directory object store")
    s3_url: str = Field(default="", description="http(s)://host:port of the S3 server")
    s3_public_url: str | None = Field(
        default=None, description="where browsers reach the bucket; the public URL by default"
    )
    s3_bucket: str = Field(default="kgl-documents", pattern=BUCKET)
    s3_prefix: str = Field(default="", description="folder in a bucket that others use, too")
    s3_access_key: str | None = None
    s3_secret_key: SecretStr | None = None
    s3_region: str = "us-east-1"
    s3_ca: Path | None = Field(default=None, description="certificates to trust, instead of the system's")
    auth_url: str | None = Field(default=None, description="where auth answers; the public URL by default")
    identity: Literal["builtin", "keycloak"] = Field(default="builtin", description="who logs people in")
    issuer: str | None = Field(default=None, description="the exact `iss` of access tokens; see `issuer_url`")
    jwks_url: str | None = Field(default=None, description="where the issuer's keys are; see `keys_url`")
    keycloak_url: str | None = Field(default=None, description="where services reach Keycloak (the back channel)")
    keycloak_realm: str = Field(default="kgl", pattern=r"^[A-Za-z0-9._-]+$")
    keycloak_ca: Path | None = Field(default=None, description="certificates to trust, instead of the system's")
    worker_name: str = Field(default_factory=lambda: f"{os.uname().nodename}-{os.getpid()}")
    log_level: str = "INFO"
    trusted_proxies: str = Field(
        default="127.0.0.1", description="addresses or networks, with commas between, whose X-Forwarded-For is believed"
    )
    pool_size: int = Field(default=8, ge=2)
    max_body: int = Field(default=10 * 1024 * 1024, description="bytes of a JSON body")
    max_upload: int = Field(default=50 * 1024 * 1024, description="bytes of an uploaded file")
    max_page: int = 200
    rate_limit_per_minute: int = 6000
    drift_hour: int = Field(
        default=3, ge=-1, le=23, description="hour of the night, in UTC, in which drift is looked for; -1 for never"
    )
    cors_origins: tuple[str, ...] = ()
    egress_allow: str = Field(default="", description="host:port,... that outgoing requests may reach besides")

    @model_validator(mode="after")
    def _safe_in_production(self) -> Self:
        if self.env != "production":
            return self
        url = urlsplit(self.public_url)
        if url.scheme != "https" and url.hostname not in {"localhost", "127.0.0.1", "::1"}:
            raise ValueError("KGL_PUBLIC_URL must be https in production, unless it is a loopback address")
        if self.egress_allow:
            raise ValueError("KGL_EGRESS_ALLOW is for development; unset it in production")
        for setting in guessed_secrets(self):
            raise ValueError(f"{setting} has no secret, or one that anybody would guess; set another")
        return self

    @model_validator(mode="after")
    def _complete_for_keycloak(self) -> Self:
        if self.identity == "keycloak" and self.keycloak_url is None:
            raise ValueError("set KGL_KEYCLOAK_URL to where services reach Keycloak (KGL_IDENTITY is keycloak)")
        return self

    @property
    def issuer_url(self) -> str:
        """The exact `iss` of access tokens: auth's own, or that of the realm as browsers reach it."""
        own = f"/realms/{self.keycloak_realm}" if self.identity == "keycloak" else "/auth/v1/oidc"
        return self.issuer or f"{self.public_url}{own}"

    @property
    def keys_url(self) -> str:
        """Where the issuer's keys are: our own issuer is asked where auth is, another one at its address."""
        if self.jwks_url is not None:
            return self.jwks_url
        if self.identity == "keycloak":
            return f"{self.keycloak_url}/realms/{self.keycloak_realm}/protocol/openid-connect/certs"
        if self.issuer is None:
            return f"{self.auth_url or self.public_url}/auth/v1/oidc/jwks"
        return f"{self.issuer}/jwks"

    @property
    def check_url(self) -> str:
        """Where the identity check of auth answers."""
        return f"{self.auth_url or self.public_url}/auth/v1/check"


def settings_of(settings_class: type[S]) -> S:
    """The settings of this process; raises NotConfigured, with a sentence for each that is missing or wrong."""
    try:
        return settings_class()
    except ValidationError as wrong:
        raise NotConfigured("\n".join(_told(error["loc"], error["msg"]) for error in wrong.errors())) from wrong
    except OSError as unreadable:
        raise NotConfigured(f"a file that a KGL_..._FILE names cannot be read: {unreadable}") from unreadable


def guessed_secrets(settings: ServiceSettings) -> list[str]:
    """The settings whose secret is empty or well known, by their names in the environment."""
    return [
        f"{PREFIX}{name}".upper()
        for name in type(settings).model_fields
        if isinstance(value := getattr(settings, name), SecretStr) and _is_guessed(value.get_secret_value())
    ]


def _is_guessed(value: str) -> bool:
    """Whether what is secret in the value, of a URL its password, is empty or well known."""
    if "://" not in value:
        return value.lower() in _GUESSED
    url = urlsplit(value)
    # a socket of this machine tells who is there by itself
    return bool(url.hostname) and (url.password or "").lower() in _GUESSED


def _told(place: tuple[int | str, ...], message: str) -> str:
    sentence = message.removeprefix("Value error, ")
    if not place:
        return sentence
    name = f"{PREFIX}{place[0]}".upper()
    return f"set {name} or {name}_FILE" if message == "Field required" else f"{name}: {sentence}"
