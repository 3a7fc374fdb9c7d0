"""Logins of browsers: to the identity provider and back, and the access tokens that a page gets for its cookie."""

import base64
import binascii
import hmac
from typing import Annotated
from urllib.parse import quote

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kgl_auth.api.cookies import FROM_OUR_PAGES, SessionCookie, give_cookie, take_cookie
from kgl_auth.browser_sessions import PendingLogin
from kgl_auth.domain.local_paths import local_path
from kgl_auth.outside import AuthOutside, Outside
from kgl_auth.problems import NextRefused, NotLoggedIn
from kgl_auth.stores.identity_provider import LoginRefused
from kgl_servicekit.http import PUBLIC, SESSION, ApiRouter
from kgl_servicekit.http.guard import OriginRefused

router = ApiRouter(tags=["sessions"])

_PENDING_SECONDS = 600


class BrowserToken(BaseModel):
    """An access token for every API; `expires_in` in seconds."""

    model_config = ConfigDict(frozen=True)

    access_token: str
    token_type: str = "Bearer"  # noqa: S105
    expires_in: int = Field(examples=[300])


@router.get("/login", permission=PUBLIC, cache="no-store", problems=[NextRefused], status_code=303)
async def login(
    outside: Outside, next: Annotated[str, Query(description="path of this site to go to afterwards")] = "/"
) -> RedirectResponse:
    """Send a browser to log in, and back to `next` with a session cookie."""
    path = local_path(next)
    if path is None:
        raise NextRefused()
    pending = PendingLogin(next=path)
    response = RedirectResponse(await outside.browser_sessions.begin(pending), 303)
    give_cookie(response, outside.settings, outside.settings.pending_cookie, _packed(pending), _PENDING_SECONDS)
    return response


@router.get("/callback", permission=PUBLIC, cache="no-store", status_code=303)
async def callback(
    request: Request, outside: Outside, cookie: SessionCookie, code: str = "", state: str = "", error: str = ""
) -> Response:
    """Where the identity provider sends a browser back to; opens its session."""
    settings = outside.settings
    pending = _unpacked(request.cookies.get(settings.pending_cookie, ""))
    path = local_path(pending.next) if pending else None
    if pending is None or path is None or not hmac.compare_digest(pending.state.encode(), state.encode()):
        return _not_completed(outside, "/")
    if error or not code:
        return _not_completed(outside, path)
    try:
        opened = await outside.browser_sessions.open(pending, code)
    except LoginRefused:
        return _not_completed(outside, path)
    if cookie is not None:
        await outside.browser_sessions.end(cookie)
    response = RedirectResponse(path, 303)
    take_cookie(response, settings, settings.pending_cookie)
    give_cookie(response, settings, settings.session_cookie, opened, settings.session_seconds)
    return response


@router.post("/token", permission=SESSION, dependencies=[FROM_OUR_PAGES], problems=[NotLoggedIn, OriginRefused])
async def token(outside: Outside, cookie: SessionCookie) -> BrowserToken:
    """A new access token for the browser's session cookie; only pages of this site and of listed origins may ask."""
    if cookie is None:
        raise NotLoggedIn()
    access = await outside.browser_sessions.access_token(cookie)
    return BrowserToken(access_token=access.text, expires_in=access.expires_in)


@router.post("/logout", permission=PUBLIC, status_code=204, dependencies=[FROM_OUR_PAGES], problems=[OriginRefused])
async def logout(outside: Outside, cookie: SessionCookie) -> Response:
    """End the browser's session everywhere; its tokens are refused from now on."""
    if cookie is not None:
        await outside.browser_sessions.end(cookie)
    response = Response(status_code=204)
    take_cookie(response, outside.settings, outside.settings.session_cookie)
    return response


def _not_completed(outside: AuthOutside, path: str) -> Response:
    page = outside.pages.show(
        "message",
        status=400,
        title="The login was not completed",
        sentence="It took too long, was given up, or was begun in another window.",
        link=f"/auth/v1/login?next={quote(path, safe='/')}",
        link_text="Begin again",
    )
    take_cookie(page, outside.settings, outside.settings.pending_cookie)
    return page


def _packed(pending: PendingLogin) -> str:
    return base64.urlsafe_b64encode(pending.model_dump_json().encode()).rstrip(b"=").decode()


def _unpacked(cookie: str) -> PendingLogin | None:
    try:
        return PendingLogin.model_validate_json(base64.urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4)))
    except (binascii.Error, ValueError, ValidationError):
        return None
