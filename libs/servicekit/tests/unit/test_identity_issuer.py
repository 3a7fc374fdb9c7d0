"""Where tokens come from and where their keys are, as the settings say it."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from kgl_servicekit.http.testing import settings_for_tests
from kgl_servicekit.identity.issuer import marks_of, trust_of
from kgl_servicekit.identity.tokens import KEYCLOAK, RFC9068
from kgl_servicekit.settings import NotConfigured

KEYCLOAK_URL = "http://keycloak:8080"


def test_our_own_issuers_keys_are_where_auth_answers() -> None:
    assert settings_for_tests().issuer_url == "http://localhost:8080/auth/v1/oidc"
    assert settings_for_tests().keys_url == "http://localhost:8080/auth/v1/oidc/jwks"
    assert settings_for_tests(auth_url="http://auth:8000").keys_url == "http://auth:8000/auth/v1/oidc/jwks"
    assert settings_for_tests(issuer="https://id.example/r").keys_url == "https://id.example/r/jwks"
    assert marks_of(settings_for_tests()) is RFC9068


def test_keycloak_is_named_by_its_public_address_and_asked_for_keys_at_the_back() -> None:
    settings = settings_for_tests(identity="keycloak", keycloak_url=KEYCLOAK_URL)
    assert settings.issuer_url == "http://localhost:8080/realms/kgl"
    assert settings.keys_url == f"{KEYCLOAK_URL}/realms/kgl/protocol/openid-connect/certs"
    assert marks_of(settings) is KEYCLOAK
    other = settings_for_tests(
        identity="keycloak",
        keycloak_url=KEYCLOAK_URL,
        keycloak_realm="lab",
        issuer="https://id.example/realms/lab",
        jwks_url="https://keys.example/lab",
    )
    assert (other.issuer_url, other.keys_url) == ("https://id.example/realms/lab", "https://keys.example/lab")


def test_keycloak_without_its_address_or_with_certificates_that_are_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="set KGL_KEYCLOAK_URL"):
        settings_for_tests(identity="keycloak")
    settings = settings_for_tests(identity="keycloak", keycloak_url=KEYCLOAK_URL, keycloak_ca=tmp_path / "none.pem")
    with pytest.raises(NotConfigured, match="KGL_KEYCLOAK_CA"):
        trust_of(settings)
