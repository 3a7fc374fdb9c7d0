"""Who asks, and may they? Answered before the body of a request is read."""

import re
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from kgl_servicekit.errors import BadRequest, Forbidden
from kgl_servicekit.http.exchange import RequestCaller, WorkspaceRequired
from kgl_servicekit.http.rules import SESSION, Rules
from kgl_servicekit.identity.checked import Authority, Checked
from kgl_servicekit.identity.permissions import grants, is_instance_permission
from kgl_servicekit.identity.problems import CredentialMalformed, CredentialMissing, WorkspaceMalformed

READING = frozenset({"GET", "HEAD", "OPTIONS"})
CREDENTIAL_NAMES = frozenset({"access_token", "token", "id_token", "api_key", "apikey", "authorization", "bearer"})
_SESSION = "Session "
_HINT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?", re.ASCII)


class HeaderRepeated(BadRequest, code="header_repeated"):
    """This header may be sent once only; `header` names it."""

    header: str


class CredentialInQuery(BadRequest, code="credential_in_query"):
    """Addresses end up in logs: send the credential in the Authorization header, and replace this one."""


class PermissionMissing(Forbidden, code="permission_missing"):
    """Your role in this workspace does not include `permission`; ask an owner for it."""

    permission: str


class UserRequired(Forbidden, code="user_required"):
    """This is for users who have logged in; an API key cannot do it."""


class OriginRefused(Forbidden, code="origin_refused"):
    """A page of this origin may not act with the session cookie."""


async def authenticate(
    request: HTTPConnection, rules: Rules, authority: Authority, origins: frozenset[str]
) -> RequestCaller:
    """The caller, who has a permission that the route demands. `origins` may use the session cookie.

    Raises 400 for an ambiguous request, 401, 403, and 503 when nobody can tell.
    """
    method, permission = request.scope["method"], rules.permission
    authorization = _authorization(request, authority, origins, method)
    hint = None if permission is SESSION else _workspace_hint(request, method)
    checked = await authority.check(authorization, hint, reading=method in READING)
    if permission is SESSION and checked.user_id is None:
        raise UserRequired
    by_instance = rules.or_instance is not None and grants(checked.permissions, rules.or_instance)
    if isinstance(permission, str) and not by_instance:
        await _demand(checked, permission, authority)
    return RequestCaller(checked)


async def _demand(checked: Checked, permission: str, authority: Authority) -> None:
    if checked.workspace_id is None and not is_instance_permission(permission):
        choices = await authority.workspaces(checked.user_id) if checked.user_id else ()
        raise WorkspaceRequired.among(list(choices))
    if not grants(checked.permissions, permission):
        raise PermissionMissing(permission=permission)


def _authorization(request: HTTPConnection, authority: Authority, origins: frozenset[str], method: str) -> str:
    if request.scope["query_string"] and CREDENTIAL_NAMES & {name.lower() for name in request.query_params}:
        raise CredentialInQuery
    if (header := single(request, "authorization")) is not None:
        if header.lower().startswith(_SESSION.lower()):
            raise CredentialMalformed
        return header
    cookie = authority.session_cookie
    if cookie is None or (session := request.cookies.get(cookie)) is None:
        raise CredentialMissing
    # a cookie comes along by itself, so a change must also come from a page of ours
    if method not in READING and single(request, "origin") not in origins:
        raise OriginRefused
    return _SESSION + session


def _workspace_hint(request: HTTPConnection, method: str) -> str | None:
    named = {single(request, "kgl-workspace")}
    if method in READING and request.scope["query_string"]:
        named |= set(request.query_params.getlist("workspace"))
    named.discard(None)
    if not named:
        return None
    hint = named.pop()
    if named or hint is None or _HINT.fullmatch(hint) is None:
        raise WorkspaceMalformed
    return hint.lower()


def single(request: HTTPConnection, name: str) -> str | None:
    """The value of a header; raises HeaderRepeated when there are two."""
    values = request.headers.getlist(name)
    if len(values) > 1:
        raise HeaderRepeated(header=name)
    return values[0] if values else None


def origin_of(url: str) -> str:
    """The origin of a URL, as browsers write it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
