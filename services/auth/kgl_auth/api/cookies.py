"""Cookies of this service: never readable by scripts, never sent along by other sites' forms."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from kgl_auth.outside import Outside
from kgl_auth.settings import AuthSettings
from kgl_servicekit.http.guard import OriginRefused, single
from kgl_servicekit.http.serving import kit_of


def give_cookie(response: Response, settings: AuthSettings, name: str, value: str, seconds: int | None = None) -> None:
    """Set a cookie of this host; without `seconds` it ends with the browser."""
    response.set_cookie(
        name, value, max_age=seconds, path="/", secure=settings.secure_cookies, httponly=True, samesite="lax"
    )


def take_cookie(response: Response, settings: AuthSettings, name: str) -> None:
    """Remove a cookie of this host."""
    response.delete_cookie(name, path="/", secure=settings.secure_cookies, httponly=True, samesite="lax")


async def _from_our_pages(request: Request) -> None:
    if single(request, "origin") not in kit_of(request).origins:
        raise OriginRefused()


async def _session_cookie(request: Request, outside: Outside) -> str | None:
    return request.cookies.get(outside.settings.session_cookie)


FROM_OUR_PAGES = Depends(_from_our_pages)
"""A request that a cookie gives its power: it must come from a page of this site, or of a listed origin."""

SessionCookie = Annotated[str | None, Depends(_session_cookie)]
