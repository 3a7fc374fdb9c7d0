import hashlib
from uuid import uuid4

import pytest

from kgl_servicekit.identity.credential import AccessToken, ApiKey, fingerprint, parse_authorization
from kgl_servicekit.identity.permissions import (
    INSTANCE_ROLES,
    PERMISSIONS,
    ROLES,
    grants,
    is_permission,
    permissions_of,
)
from kgl_servicekit.identity.problems import CredentialMalformed


def test_an_api_key_survives_its_header_and_does_not_print_its_secret() -> None:
    key = ApiKey.generate()
    assert parse_authorization(f"Bearer {key.text}") == key
    assert parse_authorization(f"bearer {key.text}") == key
    assert key.secret not in repr(key)
    assert key.secret_sha256 == hashlib.sha256(key.secret.encode()).hexdigest()
    assert len(key.text) == 4 + 16 + 1 + 43


KEY = ApiKey.generate()


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {KEY.text}",
        KEY.text,
        f"Bearer  {KEY.text}",
        f"Bearer {KEY.text} ",
        f"Bearer {KEY.text}\n",
        f"Bearer {KEY.text}x",
        f"Bearer {KEY.text[:-1]}",
        f"Bearer {KEY.text.upper()}",
        f"Bearer kgl_{KEY.id}_{'é' * 43}",
        f"Bearer kgl_{'g' * 16}_{KEY.secret}",
        "Bearer one",
        "Bearer one.two",
        "Bearer a.b.c.d.e",
        "Bearer a.b.c d",
        f"Bearer {'a' * 8193}.b.c",
        f"Bearer {KEY.text}, Bearer {KEY.text}",
    ],
    ids=lambda value: str(len(value)),  # the key is another one in each process that collects the tests
)
def test_anything_else_is_no_credential(value: str) -> None:
    with pytest.raises(CredentialMalformed) as refused:
        parse_authorization(value)
    assert KEY.secret not in str(refused.value)


def test_a_token_is_recognised_and_does_not_print() -> None:
    token = parse_authorization("Bearer aaa.bbb.")
    assert token == AccessToken("aaa.bbb.")
    assert "aaa" not in repr(token)


def test_a_fingerprint_tells_credentials_and_workspaces_apart() -> None:
    a, b = str(uuid4()), str(uuid4())
    assert len({fingerprint(x, y) for x in (a, b) for y in (None, "", a, b)}) == 8


def test_the_roles_are_as_documented() -> None:
    assert ROLES["owner"] == PERMISSIONS
    assert PERMISSIONS - ROLES["admin"] == {"workspace:manage"}
    assert not any(name.endswith((":write", ":delete", ":manage", ":publish")) for name in ROLES["viewer"])
    assert "content:publish" in ROLES["reviewer"]
    assert "content:publish" not in ROLES["editor"]
    assert "modules:work" in ROLES["module"]
    assert "documents:write" not in ROLES["module"]
    assert all(role <= PERMISSIONS for role in ROLES.values())


def test_permissions_of_roles_add_up_and_an_unknown_role_is_an_error() -> None:
    assert permissions_of(["viewer", "module"]) == ROLES["viewer"] | ROLES["module"]
    assert permissions_of([]) == frozenset()
    with pytest.raises(KeyError):
        permissions_of(["root"])


def test_the_operator_rules_the_instance_and_reads_no_documents() -> None:
    operator = INSTANCE_ROLES["operator"]
    assert grants(operator, "instance:backup")
    assert not grants(operator, "documents:read")
    assert not grants(ROLES["owner"], "instance:backup")
    assert is_permission("instance:backup")
    assert not is_permission("instance:")
    assert not is_permission("documents:fly")
