"""For tests: a realm of Keycloak in this process, at the level of HTTP, with tokens that are really signed.

It answers as Keycloak 26.7 did when it was asked the same; the suites that run over it run over a real server too.
"""

import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit
from uuid import UUID, uuid4

import httpx
from joserfc import jwt
from joserfc.jwk import RSAKey

from kgl_auth.domain.bearer_secrets import new_secret
from kgl_auth.domain.oidc import with_query
from kgl_auth.domain.passwords import weakness
from kgl_auth.domain.pkce import challenge_of

BACK = "http://keycloak.test"
SECRET = "the secret of kgl-auth"  # noqa: S105
_KEY = RSAKey.generate_key(2048)
_SERVICE_ACCOUNT = UUID("0198f3a0-0000-7000-8000-0000000000aa")


@dataclass(slots=True)
class FakeUser:
    """A user of the realm."""

    id: UUID
    email: str
    name: str
    password: str = field(repr=False)
    enabled: bool = True
    groups: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Code:
    asked: dict[str, str]
    session_id: str


class FakeKeycloak(httpx.AsyncBaseTransport):
    """The realm `kgl`. `out` takes the server away; `instead` answers for an endpoint, by the end of its path."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.out = False
        self.instead: dict[str, httpx.Response] = {}
        self.secret = SECRET
        self.users: dict[UUID, FakeUser] = {}
        self.sessions: dict[str, UUID] = {}
        self.admin_events: list[dict[str, Any]] = []
        self.user_events: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self._codes: dict[str, _Code] = {}
        self._refresh: dict[str, tuple[str, str]] = {}
        self._used: set[str] = set()
        self._browsers: dict[object, str] = {}

    # what people and administrators do

    async def create_user(self, email: str, name: str, password: str) -> UUID:
        """An account, made by an administrator."""
        user = FakeUser(uuid4(), email, name, password)
        self.users[user.id] = user
        return user.id

    async def log_in(self, url: str, email: str, password: str, browser: object) -> str:
        """Where the browser is sent back to; one that has logged in before is not asked again."""
        asked = dict(parse_qsl(urlsplit(url).query))
        known = self._browsers.get(browser)
        if known not in self.sessions:
            user = next(user for user in self.users.values() if user.email == email)
            if not user.enabled or user.password != password:
                raise LookupError("the login page again")
            known = new_secret()[:24]
            self.sessions[known] = user.id
            self._browsers[browser] = known
        code = new_secret()
        self._codes[code] = _Code(asked, known)
        return with_query(asked["redirect_uri"], code=code, state=asked["state"], iss=self.issuer)

    async def elsewhere(self, user_id: UUID, **claims: Any) -> str:
        """An access token of another client of the realm, in a session that is new."""
        session_id = new_secret()[:24]
        self.sessions[session_id] = user_id
        return self.token(user_id, session_id, azp="spa", **claims)

    async def disable(self, user_id: UUID) -> None:
        """An administrator disables a user, whose sessions stay."""
        self.users[user_id].enabled = False
        self.admin_event("UPDATE", "USER", f"users/{user_id}")

    async def delete(self, user_id: UUID) -> None:
        """An administrator deletes a user."""
        del self.users[user_id]
        self._forget(user_id)
        self.admin_event("DELETE", "USER", f"users/{user_id}")

    async def log_out_everywhere(self, user_id: UUID) -> None:
        """An administrator ends all sessions of a user."""
        self._forget(user_id)
        self.admin_event("ACTION", "USER", f"users/{user_id}/logout")

    async def end_session(self, session_id: str) -> None:
        """An administrator ends a session."""
        self.sessions.pop(session_id)
        self.admin_event("DELETE", "USER_SESSION", f"sessions/{session_id}")

    async def join(self, user_id: UUID, group: str) -> None:
        """An administrator puts a user into a group."""
        self.users[user_id].groups.add(group)
        self.admin_event("CREATE", "GROUP_MEMBERSHIP", f"users/{user_id}/groups/{uuid4()}")

    async def leave(self, user_id: UUID, group: str) -> None:
        """An administrator takes a user out of a group."""
        self.users[user_id].groups.remove(group)
        self.admin_event("DELETE", "GROUP_MEMBERSHIP", f"users/{user_id}/groups/{uuid4()}")

    async def log_out_of(self, session_id: str) -> None:
        """A user logs out at another client."""
        user_id = self.sessions.pop(session_id)
        self._record(self.user_events, type="LOGOUT", userId=str(user_id), sessionId=session_id, clientId="spa")

    def admin_event(self, operation: str, resource: str, path: str, by: UUID | None = None) -> None:
        """Record what an administrator did."""
        details = {"userId": str(by or uuid4())}
        event = {"operationType": operation, "resourceType": resource, "resourcePath": path, "authDetails": details}
        self._record(self.admin_events, **event)

    # tokens

    def token(self, user_id: UUID, session_id: str | None, **changes: Any) -> str:
        """A signed access token; `changes` replace claims, None leaves one out."""
        user, now = self.users[user_id], int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": "kgl",
            "sub": str(user_id),
            "sid": session_id,
            "typ": "Bearer",
            "azp": "kgl-auth",
            "iat": now,
            "exp": now + 300,
            "jti": new_secret(),
            "scope": "openid profile email",
            "name": user.name,
            "preferred_username": user.email,
            "email": user.email,
            "groups": sorted(user.groups) or None,
            **changes,
        }
        said = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode({"alg": "RS256", "typ": "JWT", "kid": "realm-key"}, said, _KEY)

    # what our service asks

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked.append(f"{request.method} {path}")
        if self.out:
            raise httpx.ConnectError("refused", request=request)
        for end, response in self.instead.items():
            if path.endswith(end):
                return response
        form = {name: values[0] for name, values in parse_qs((await request.aread()).decode()).items()}
        if path.startswith("/realms/kgl"):
            return self._realm(path.removeprefix("/realms/kgl"), form)
        if path.startswith("/admin/realms/kgl/"):
            if "authorization" not in request.headers:
                return httpx.Response(401)
            return self._admin(request, path.removeprefix("/admin/realms/kgl/").split("/"))
        return _error(404, "Realm does not exist")

    def _realm(self, path: str, form: dict[str, str]) -> httpx.Response:
        if path == "":
            return httpx.Response(200, json={"realm": "kgl"})
        if path == "/.well-known/openid-configuration":
            return httpx.Response(200, json={"issuer": self.issuer})
        if path.endswith("/certs"):
            return httpx.Response(200, json=jwks())
        if form.get("client_id") != "kgl-auth" or form.get("client_secret") != self.secret:
            return _error(401, "unauthorized_client", "Invalid client or Invalid client credentials")
        if path.endswith("/logout"):
            self._log_out(form["refresh_token"])
            return httpx.Response(204)
        if form["grant_type"] == "client_credentials":
            token = jwt.encode({"alg": "RS256"}, {"sub": str(_SERVICE_ACCOUNT)}, _KEY)
            return httpx.Response(200, json={"access_token": token, "expires_in": 300})
        if form["grant_type"] == "refresh_token":
            return self._refreshed(form["refresh_token"])
        code = self._codes.pop(form["code"], None)
        if code is None or code.session_id not in self.sessions:
            return _error(400, "invalid_grant", "Code not valid")
        if challenge_of(form["code_verifier"]) != code.asked["code_challenge"]:
            return _error(400, "invalid_grant", "PKCE verification failed: Code mismatch")
        return self._given(code.session_id, code.asked["nonce"])

    def _refreshed(self, refresh_token: str) -> httpx.Response:
        session_id, nonce = self._refresh.get(refresh_token, ("", ""))
        if refresh_token in self._used:
            # all refresh tokens of the client's part of this session are void from now on
            self._refresh = {name: each for name, each in self._refresh.items() if each[0] != session_id}
            return _error(400, "invalid_grant", "Maximum allowed refresh token reuse exceeded")
        if session_id not in self.sessions:
            return _error(400, "invalid_grant", "Session not active")
        if not self.users[self.sessions[session_id]].enabled:
            return _error(400, "invalid_grant", "User disabled")
        self._used.add(refresh_token)
        return self._given(session_id, nonce)

    def _given(self, session_id: str, nonce: str) -> httpx.Response:
        user_id, refresh_token = self.sessions[session_id], new_secret()
        self._refresh[refresh_token] = (session_id, nonce)
        id_token = self.token(user_id, session_id, aud="kgl-auth", typ="ID", nonce=nonce, groups=None)
        given = {"access_token": self.token(user_id, session_id), "refresh_token": refresh_token, "id_token": id_token}
        return httpx.Response(200, json={**given, "expires_in": 300, "token_type": "Bearer"})

    def _log_out(self, refresh_token: str) -> None:
        session_id = self._refresh.get(refresh_token, ("", ""))[0]
        if session_id in self.sessions:
            user_id = self.sessions.pop(session_id)
            self._record(self.user_events, type="LOGOUT", userId=str(user_id), sessionId=session_id)

    def _admin(self, request: httpx.Request, path: list[str]) -> httpx.Response:
        query = dict(request.url.params)
        if path == ["admin-events"]:
            return httpx.Response(200, json=_page(self.admin_events, query))
        if path == ["events"]:
            kinds = request.url.params.get_list("type")
            return httpx.Response(200, json=_page([e for e in self.user_events if e["type"] in kinds], query))
        if path == ["users"] and request.method == "POST":
            return self._create(json.loads(request.content))
        if path == ["users"]:
            found = [user for user in self.users.values() if user.email == query.get("email", user.email)]
            return httpx.Response(200, json=[_shown(user) for user in found][: int(query.get("max", 100))])
        user = self.users.get(UUID(path[1]))
        if user is None:
            return _error(404, "User not found")
        if path[2:] == ["logout"]:
            self._forget(user.id)
            self.admin_event("ACTION", "USER", f"users/{user.id}/logout", by=_SERVICE_ACCOUNT)
            return httpx.Response(204)
        if path[2:] == ["sessions"]:
            return httpx.Response(200, json=[{"id": sid} for sid, whose in self.sessions.items() if whose == user.id])
        if path[2:] == ["groups"]:
            return httpx.Response(200, json=[{"path": path} for path in sorted(user.groups)] * (not _is_later(query)))
        return httpx.Response(200, json=_shown(user))

    def _create(self, asked: dict[str, Any]) -> httpx.Response:
        password = asked["credentials"][0]["value"]
        if any(user.email == asked["email"] for user in self.users.values()):
            return httpx.Response(409, json={"errorMessage": "User exists with same email"})
        if weakness(password, asked["email"]) is not None or "123" in password:
            told = "Invalid password: minimum length 10."
            return _error(400, "invalidPasswordMinLengthMessage", told)
        name = f"{asked['firstName']} {asked['lastName']}".strip()
        user = FakeUser(uuid4(), asked["email"], name, password)
        self.users[user.id] = user
        return httpx.Response(201, headers={"Location": f"{BACK}/admin/realms/kgl/users/{user.id}"})

    def _forget(self, user_id: UUID) -> None:
        self.sessions = {sid: whose for sid, whose in self.sessions.items() if whose != user_id}

    def _record(self, events: list[dict[str, Any]], **event: Any) -> None:
        events.append({"id": str(uuid4()), "time": int(time.time() * 1000), **event})


def jwks() -> dict[str, Any]:
    """The realm's keys, the one for encryption among them."""
    public = {**_KEY.as_dict(private=False), "kid": "realm-key", "use": "sig", "alg": "RS256"}
    return {"keys": [public, {**public, "kid": "other-key", "use": "enc", "alg": "RSA-OAEP"}]}


def _page(events: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
    since, first = int(query.get("dateFrom", 0)), int(query.get("first", 0))
    found = sorted((event for event in events if event["time"] >= since), key=lambda event: event["time"])
    return found[first : first + int(query.get("max", 100))]


def _is_later(query: dict[str, str]) -> bool:
    return int(query.get("first", 0)) > 0


def _shown(user: FakeUser) -> dict[str, Any]:
    first, _, last = user.name.partition(" ")
    return {
        "id": str(user.id),
        "username": user.email,
        "email": user.email,
        "firstName": first,
        "lastName": last,
        "enabled": user.enabled,
    }


def _error(status: int, error: str, description: str = "") -> httpx.Response:
    return httpx.Response(status, json={"error": error, "error_description": description})
