"""The realm file: what must never be in it, and what must."""

import json
import re
from pathlib import Path
from typing import Any

from kgl_auth.domain import passwords
from kgl_auth.settings import DAY

DEPLOY = Path(__file__).parents[4] / "deploy" / "keycloak"
TEXT = (DEPLOY / "kgl-realm.json").read_text()
REALM: dict[str, Any] = json.loads(TEXT)
PLACEHOLDERS = re.compile(r"\$\{([^}]*)\}")


def client() -> dict[str, Any]:
    [only] = REALM["clients"]
    return dict(only)


def test_guessing_is_slowed_down_and_locks_nobody_out_for_good() -> None:
    assert REALM["bruteForceProtected"] is True
    assert 0 < REALM["failureFactor"] <= 10
    assert REALM["permanentLockout"] is False
    assert REALM["waitIncrementSeconds"] >= 60
    assert REALM["maxFailureWaitSeconds"] <= 900


def test_no_client_gets_tokens_for_a_password_or_by_the_implicit_flow() -> None:
    for each in REALM["clients"]:
        assert each["directAccessGrantsEnabled"] is False
        assert each["implicitFlowEnabled"] is False
        assert each["attributes"]["pkce.code.challenge.method"] == "S256"
        assert each["attributes"]["oauth2.device.authorization.grant.enabled"] == "false"
        assert each["fullScopeAllowed"] is False


def test_a_browser_is_sent_back_to_one_exact_address() -> None:
    for each in REALM["clients"]:
        assert each["redirectUris"]
        assert not any("*" in uri for uri in (*each["redirectUris"], *each["webOrigins"]))
    assert client()["redirectUris"] == ["${KGL_PUBLIC_URL}/auth/v1/callback"]


def test_the_auth_service_has_a_secret_and_few_rights() -> None:
    assert (client()["clientId"], client()["publicClient"]) == ("kgl-auth", False)
    assert client()["secret"] == "${KGL_KEYCLOAK_CLIENT_SECRET}"
    [service] = REALM["users"]
    assert service["serviceAccountClientId"] == "kgl-auth"
    assert service["clientRoles"] == {"realm-management": ["view-users", "manage-users", "view-events"]}
    assert "realmRoles" not in service


def test_refresh_tokens_are_good_once_and_access_tokens_for_minutes() -> None:
    assert REALM["revokeRefreshToken"] is True
    assert REALM["refreshTokenMaxReuse"] == 0
    assert REALM["accessTokenLifespan"] <= 300
    assert REALM["accessCodeLifespan"] <= 60
    assert REALM["ssoSessionIdleTimeout"] == 7 * DAY
    assert REALM["ssoSessionMaxLifespan"] == 30 * DAY


def test_tokens_are_for_us_and_name_the_groups_by_their_whole_path() -> None:
    mappers = {each["protocolMapper"]: each["config"] for each in client()["protocolMappers"]}
    assert mappers["oidc-audience-mapper"]["included.custom.audience"] == "kgl"
    assert mappers["oidc-audience-mapper"]["id.token.claim"] == "false"
    assert mappers["oidc-group-membership-mapper"]["claim.name"] == "groups"
    assert mappers["oidc-group-membership-mapper"]["full.path"] == "true"
    assert REALM["defaultSignatureAlgorithm"] == "RS256"


def test_a_password_is_held_to_the_same_rules_as_by_the_built_in_issuer() -> None:
    rules = set(REALM["passwordPolicy"].split(" and "))
    assert rules >= {f"length({passwords.SHORTEST})", f"maxLength({passwords.LONGEST})", "notEmail(undefined)"}


def test_what_happens_to_users_and_logins_is_recorded_for_a_week() -> None:
    assert REALM["eventsEnabled"] is REALM["adminEventsEnabled"] is True
    assert {"LOGOUT", "DELETE_ACCOUNT", "USER_DISABLED_BY_PERMANENT_LOCKOUT"} <= set(REALM["enabledEventTypes"])
    assert REALM["eventsExpiration"] == int(REALM["attributes"]["adminEventsExpiration"]) == 7 * DAY


def test_the_address_is_the_name_of_an_account_and_nobody_is_asked_for_a_last_name() -> None:
    assert REALM["registrationEmailAsUsername"] is True
    assert REALM["duplicateEmailsAllowed"] is False
    [profile] = REALM["components"]["org.keycloak.userprofile.UserProfileProvider"]
    [text] = profile["config"]["kc.user.profile.config"]
    required = {each["name"] for each in json.loads(text)["attributes"] if "required" in each}
    assert required == {"email"}


def test_nothing_secret_and_no_address_is_written_down() -> None:
    assert set(PLACEHOLDERS.findall(TEXT)) == {
        "KGL_PUBLIC_URL",
        "KGL_KEYCLOAK_CLIENT_SECRET",
        "KGL_KEYCLOAK_REGISTRATION:false",
        "KGL_KEYCLOAK_VERIFY_EMAIL:false",
        "KGL_KEYCLOAK_RESET_PASSWORD:false",
    }
    assert "http" not in PLACEHOLDERS.sub("", TEXT)
    assert not any("credentials" in user for user in REALM["users"])


def test_the_image_starts_in_production_mode_with_the_realm() -> None:
    recipe = (DEPLOY / "Dockerfile").read_text()
    assert "FROM quay.io/keycloak/keycloak:26.7.3\n" in recipe
    assert 'CMD ["start", "--optimized", "--import-realm"]' in recipe
    assert "start-dev" not in recipe
