"""What an operator may have set wrong about Keycloak."""

import httpx
import pytest

from kgl_auth.bootstrap import build
from kgl_auth.testing import PUBLIC_URL
from kgl_auth.testing_fake_keycloak import FakeKeycloak
from kgl_auth.testing_keycloak import KeycloakKit, keycloak_for_tests, settings_with_keycloak
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.settings import NotConfigured
from kgl_servicekit.testing.postgres import Roles

Kit = KeycloakKit[FakeKeycloak]
ISSUER = f"{PUBLIC_URL}/realms/kgl"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"keycloak_client_secret": "wrong"}, "KGL_KEYCLOAK_CLIENT_SECRET is refused"),
        ({"keycloak_client_id": "nobody"}, "KGL_KEYCLOAK_CLIENT_ID"),
        ({"keycloak_realm": "other"}, "KGL_KEYCLOAK_REALM: Keycloak has no realm 'other'"),
        ({"issuer": "https://id.example/realms/kgl"}, "KGL_ISSUER is https://id.example/realms/kgl"),
    ],
)
async def test_a_wrong_setting_ends_the_start_with_a_sentence_that_names_it(
    realm_roles: Roles, changes: dict[str, str], sentence: str
) -> None:
    realm = FakeKeycloak(ISSUER)
    with pytest.raises(NotConfigured, match=sentence):
        async with keycloak_for_tests(realm_roles, realm, realm, **changes):
            pass


async def test_a_service_account_without_its_roles_ends_the_start(realm_roles: Roles) -> None:
    realm = FakeKeycloak(ISSUER)
    realm.instead["/admin-events"] = httpx.Response(403, json={"error": "HTTP 403 Forbidden"})
    with pytest.raises(NotConfigured, match="view-users, manage-users and view-events"):
        async with keycloak_for_tests(realm_roles, realm, realm):
            pass


async def test_a_start_while_keycloak_is_out_is_none_of_the_operators_mistakes(realm_roles: Roles) -> None:
    realm = FakeKeycloak(ISSUER)
    realm.out = True
    async with keycloak_for_tests(realm_roles, realm, realm) as keycloak:
        realm.out = False
        assert (
            await keycloak.me(await keycloak.access_token(await keycloak.log_in(await keycloak.newcomer())))
        ).status_code == 200


@pytest.mark.parametrize("secret", ["", None])
def test_there_is_no_client_without_a_secret(secret: str | None) -> None:
    roles = Roles.__new__(Roles)
    object.__setattr__(roles, "service", "postgresql://x")
    with pytest.raises(ValueError, match="set KGL_KEYCLOAK_CLIENT_SECRET"):
        build(settings_with_keycloak(roles, keycloak_client_secret=secret), MemoryBus())
