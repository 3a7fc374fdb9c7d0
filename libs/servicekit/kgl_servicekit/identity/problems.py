"""What can be wrong with a credential. Sentences never repeat the credential."""

from kgl_servicekit.errors import BadRequest, Forbidden, Unauthorized, Unavailable


class CredentialMissing(Unauthorized, code="credential_missing"):
    """Send an access token or an API key as `Authorization: Bearer ...`."""


class CredentialMalformed(Unauthorized, code="credential_malformed"):
    """The Authorization header is not `Bearer` and an access token or API key."""


class TokenInvalid(Unauthorized, code="token_invalid"):
    """The access token is not valid here; get a new one."""


class TokenExpired(Unauthorized, code="token_expired"):
    """The access token has expired; get a new one."""


class SessionEnded(Unauthorized, code="session_ended"):
    """The session of this token has ended; log in again."""


class KeyInvalid(Unauthorized, code="key_invalid"):
    """The API key is unknown, revoked or expired; make a new one in the workspace."""


class WorkspaceDenied(Forbidden, code="workspace_denied"):
    """There is no workspace of this name that you are a member of."""


class WorkspaceMismatch(Forbidden, code="workspace_mismatch"):
    """The API key belongs to another workspace than Kgl-Workspace names; leave the header out."""


class WorkspaceMalformed(BadRequest, code="workspace_malformed"):
    """Name the workspace by its id or its slug, once."""


class IdentityUnavailable(Unavailable, code="identity_unavailable"):
    """The identity service cannot be asked at the moment; try again after Retry-After."""
