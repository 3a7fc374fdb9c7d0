"""What the endpoints of this service work with besides transactions."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from kgl_auth.browser_sessions import BrowserSessions
from kgl_auth.issuer import Issuer
from kgl_auth.pages import Pages
from kgl_auth.problems import IssuedElsewhere
from kgl_auth.settings import AuthSettings
from kgl_auth.stores.accounts import Accounts


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthOutside:
    """Built by `bootstrap.build`."""

    settings: AuthSettings
    accounts: Accounts
    builtin: Issuer | None
    browser_sessions: BrowserSessions
    pages: Pages

    @property
    def issuer(self) -> Issuer:
        """The built-in issuer. Raises IssuedElsewhere (404) where another one issues."""
        if self.builtin is None:
            raise IssuedElsewhere(issuer=self.settings.issuer_url)
        return self.builtin


async def _outside(request: Request) -> AuthOutside:
    outside: AuthOutside = request.app.state.outside
    return outside


Outside = Annotated[AuthOutside, Depends(_outside)]
