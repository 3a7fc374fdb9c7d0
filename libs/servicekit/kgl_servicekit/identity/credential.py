"""What stands in an Authorization header: an access token or an API key. Nothing is looked up here."""

import hashlib
import re
import secrets
from dataclasses import dataclass, field

from kgl_servicekit.identity.problems import CredentialMalformed

_KEY = re.compile(r"kgl_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)
_LONGEST = 8192


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key as its holder has it; only the hash of the secret is ever stored."""

    id: str
    secret: str = field(repr=False)

    @classmethod
    def generate(cls) -> "ApiKey":
        """A new key with 256 random bits."""
        return cls(secrets.token_hex(8), secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> "ApiKey":
        """A key as its holder writes it; raises CredentialMalformed."""
        if (found := _KEY.fullmatch(text)) is None:
            raise CredentialMalformed
        return cls(found[1], found[2])

    @property
    def text(self) -> str:
        """The key as it is given to its holder, once."""
        return f"kgl_{self.id}_{self.secret}"

    @property
    def secret_sha256(self) -> str:
        """What is stored and replicated in place of the secret (hex)."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A signed token, not verified yet."""

    text: str = field(repr=False)


def parse_authorization(value: str) -> ApiKey | AccessToken:
    """Read `Bearer <credential>`; raises CredentialMalformed for anything else."""
    scheme, _, credential = value.partition(" ")
    if scheme.lower() != "bearer" or not credential or len(credential) > _LONGEST:
        raise CredentialMalformed
    if credential.startswith("kgl_"):
        return ApiKey.parse(credential)
    if _TOKEN.fullmatch(credential) is None:
        raise CredentialMalformed
    return AccessToken(credential)


def fingerprint(authorization: str, workspace_hint: str | None) -> bytes:
    """A key for caches: the hash of the whole credential and of the workspace named with it."""
    hint = "" if workspace_hint is None else f"\n{workspace_hint}"
    return hashlib.sha256(f"{authorization}{hint}".encode("utf-8", "surrogateescape")).digest()
