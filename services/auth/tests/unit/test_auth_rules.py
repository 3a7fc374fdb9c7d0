"""Small rules: slugs, local paths, form tokens, sealed secrets, e-mail addresses, the tick, settings."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from kgl_auth.domain.bearer_secrets import digest, new_secret, seal, unseal
from kgl_auth.domain.emails import account_name, checked_email
from kgl_auth.domain.form_tokens import form_token, is_form_token
from kgl_auth.domain.local_paths import local_path
from kgl_auth.domain.oidc import OidcClient, origin_of, with_query
from kgl_auth.domain.roles import missing, permissions_of
from kgl_auth.domain.slugs import Slug, another_slug, slug_of
from kgl_auth.heartbeat import heartbeat
from kgl_auth.settings import AuthSettings
from kgl_contracts.envelope import Envelope
from kgl_contracts.identity import Ticked
from kgl_servicekit.identity.permissions import PERMISSIONS

SLUG = TypeAdapter[str](Slug)


@pytest.mark.parametrize("name", ["Ada Lovelace", "Ünïcödé Läb", "x" * 500, "---", "日本", "", "A  b!!c"])
def test_every_name_has_a_slug_and_another_one(name: str) -> None:
    slug = SLUG.validate_python(slug_of(name))
    others = {SLUG.validate_python(another_slug(slug)) for _ in range(50)}
    assert slug not in others
    assert len(others) == 50


@pytest.mark.parametrize("path", ["/", "/a?b=c#d", "/a/b%2Fc", "/%2F/evil", "/a:b@c"])
def test_a_path_of_this_site_is_local(path: str) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        None,
        "",
        "a",
        "//evil",
        "///evil",
        "/\\evil",
        "\\/evil",
        "/\t/evil",
        "/a\r\nx",
        "/a b",
        "https:/evil",
        "/" * 2001,
    ],
)
def test_what_could_lead_elsewhere_is_not_local(path: str | None) -> None:
    assert local_path(path) is None


def test_a_form_token_is_good_for_one_form_one_address_and_one_browser() -> None:
    token = form_token("cookie", "login", "a=1")
    assert is_form_token(token, "cookie", "login", "a=1")
    assert not is_form_token(token, "other", "login", "a=1")
    assert not is_form_token(token, "cookie", "register", "a=1")
    assert not is_form_token(token, "cookie", "login", "a=2")
    assert not is_form_token(form_token("", "login", ""), "", "login", "")
    assert not is_form_token(token, None, "login", "a=1")
    assert not is_form_token("ünïcödé", "cookie", "login", "a=1")


def test_what_is_sealed_opens_under_the_same_secret_alone() -> None:
    secret, other = new_secret(), new_secret()
    sealed = seal("refresh token", secret)
    assert unseal(sealed, secret) == "refresh token"
    assert sealed != seal("refresh token", secret)
    assert b"refresh" not in sealed
    assert digest(secret) not in sealed
    for wrong in (other, ""):
        with pytest.raises(ValueError, match="another secret"):
            unseal(sealed, wrong)
    with pytest.raises(ValueError, match="another secret"):
        unseal(sealed[:-1] + bytes([sealed[-1] ^ 1]), secret)


def test_addresses_are_one_account_in_every_case() -> None:
    assert checked_email(" Ada@Example.COM ") == account_name("ada@EXAMPLE.com ") == "ada@example.com"
    for wrong in ("", "ada", "ada@", "a b@example.com", "ada@exa mple.com", "ada@example.com\n@x"):
        with pytest.raises(ValueError):
            checked_email(wrong)


def test_a_tick_is_the_same_record_for_the_same_moment_and_grows_with_time() -> None:
    at = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
    record, again, later = heartbeat(at), heartbeat(at), heartbeat(at + timedelta(milliseconds=1))
    assert record == again
    envelope, after = Envelope.from_headers(record.headers), Envelope.from_headers(later.headers)
    assert (record.topic, record.key) == ("kgl.identity", "clock")
    assert (envelope.type, envelope.source, envelope.time) == ("identity.clock.ticked.v1", "auth", at)
    assert envelope.sequence == 1_795_435_200_123
    assert envelope.workspace_id is None
    assert after.sequence == envelope.sequence + 1
    assert after.id != envelope.id
    assert Ticked.model_validate_json(record.value).at == at


def test_permissions_that_one_has_not_are_named() -> None:
    viewer = frozenset(permissions_of(["viewer"]))
    assert missing(permissions_of(["viewer"]), viewer) == []
    assert missing(["graph:write", "graph:read"], viewer) == ["graph:write"]
    assert missing(["instance:anything"], frozenset({"instance:*"})) == []
    assert missing(["instance:*"], PERMISSIONS) == ["instance:*"]
    assert permissions_of([]) == ()


def test_a_query_is_added_to_what_an_address_has() -> None:
    assert with_query("https://a.example/cb", code="x y", state=None) == "https://a.example/cb?code=x+y"
    assert with_query("https://a.example/cb?k=1", code="x") == "https://a.example/cb?k=1&code=x"
    assert origin_of("https://a.example:8443/cb?x") == "https://a.example:8443"
    assert origin_of("com.example.app:/cb") == "com.example.app:"


@pytest.mark.parametrize("uri", ["/callback", "https://a.example/#x", "javascript:alert(1)", "data:text/html,x"])
def test_a_client_has_absolute_redirect_uris_alone(uri: str) -> None:
    with pytest.raises(ValidationError):
        OidcClient(client_id="x", redirect_uris=(uri,))


def settings(**values: Any) -> AuthSettings:
    return AuthSettings(**{"database_url": "postgresql://x:hidden@x", "bus_url": "postgresql://x:hidden@x", **values})


def test_registration_is_closed_in_production_unless_it_is_opened() -> None:
    assert settings(env="development").registration_is_open
    assert not settings(env="production").registration_is_open
    assert settings(env="production", open_registration=True).registration_is_open
    assert not settings(env="development", open_registration=False).registration_is_open


def test_cookies_have_names_that_no_other_host_can_set_wherever_that_is_possible() -> None:
    https, http = settings(public_url="https://lab.example"), settings()
    assert (https.session_cookie, http.session_cookie) == ("__Host-kgl", "kgl_session")
    assert https.form_cookie.startswith("__Host-")
    assert https.pending_cookie.startswith("__Host-")
    assert https.secure_cookies
    assert not http.secure_cookies


def test_the_clients_of_the_issuer_are_its_own_browser_flow_and_the_listed_ones() -> None:
    listed = settings(oidc_clients=({"client_id": "app", "redirect_uris": ["https://app.example/cb"]},))
    own = listed.oidc_client("kgl-browser")
    assert own is not None
    assert own.redirect_uris == ("http://localhost:8080/auth/v1/callback",)
    assert listed.oidc_client("app") is not None
    assert listed.oidc_client("") is None
