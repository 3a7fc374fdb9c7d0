"""What the settings say of the issuer of access tokens."""

import ssl

from kgl_servicekit.identity.tokens import KEYCLOAK, RFC9068, TokenMarks
from kgl_servicekit.settings import NotConfigured, ServiceSettings


def marks_of(settings: ServiceSettings) -> TokenMarks:
    """How its access tokens are told from all else that it signs."""
    return KEYCLOAK if settings.identity == "keycloak" else RFC9068


def trust_of(settings: ServiceSettings) -> ssl.SSLContext:
    """Whose certificates are believed on the way to Keycloak. Raises NotConfigured."""
    if settings.keycloak_ca is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=settings.keycloak_ca)
    except OSError as wrong:
        raise NotConfigured(f"KGL_KEYCLOAK_CA: {settings.keycloak_ca} holds no certificates: {wrong}") from wrong
