"""Who makes a request, and what they may do: tokens, API keys, the replica of auth's state."""

from kgl_servicekit.identity.access import Module, modules
from kgl_servicekit.identity.checked import Authority, CheckAnswer, Checked, WorkspaceChoice
from kgl_servicekit.identity.credential import AccessToken, ApiKey, parse_authorization
from kgl_servicekit.identity.jwks import CachedJwks, JwksSource, http_jwks
from kgl_servicekit.identity.permissions import PERMISSIONS, ROLES, grants, permissions_of
from kgl_servicekit.identity.replicated import ReplicatedAuthority, replicated_authority
from kgl_servicekit.identity.subscription import apply_identity, identity_subscription
from kgl_servicekit.identity.tokens import Claims, TokenVerifier

__all__ = [
    "PERMISSIONS",
    "ROLES",
    "AccessToken",
    "ApiKey",
    "Authority",
    "CachedJwks",
    "CheckAnswer",
    "Checked",
    "Claims",
    "JwksSource",
    "Module",
    "ReplicatedAuthority",
    "TokenVerifier",
    "WorkspaceChoice",
    "apply_identity",
    "grants",
    "http_jwks",
    "identity_subscription",
    "modules",
    "parse_authorization",
    "permissions_of",
    "replicated_authority",
]
