"""What the endpoints of this service work with besides transactions."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from kgl_auth.browser_sessions import BrowserSessions
from kgl_auth.issuer import Issuer
from kgl_auth.pages import Pages
from kgl_auth.settings import AuthSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthOutside:
    """Built by `bootstrap.build`."""

    settings: AuthSettings
    issuer: Issuer
    browser_sessions: BrowserSessions
    pages: Pages


async def _outside(request: Request) -> AuthOutside:
    outside: AuthOutside = request.app.state.outside
    return outside


Outside = Annotated[AuthOutside, Depends(_outside)]
