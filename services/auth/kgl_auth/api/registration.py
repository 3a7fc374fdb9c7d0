"""New accounts, for programs; people have a page for it."""

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from kgl_auth.domain.identity import DisplayName
from kgl_auth.domain.passwords import SHORTEST
from kgl_auth.outside import Outside
from kgl_auth.problems import (
    EmailMalformed,
    EmailTaken,
    ProviderUnavailable,
    RegistrationClosed,
    TooManyAttempts,
    WeakPassword,
)
from kgl_auth.stores.accounts import Credentials
from kgl_auth.use_cases.register_user import Registered
from kgl_servicekit.http import PUBLIC, ApiRouter

router = ApiRouter(tags=["sessions"])


class Registration(BaseModel):
    """The account to be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    email: str = Field(max_length=320, examples=["ada@example.com"])
    password: str = Field(max_length=1000, description=f"at least {SHORTEST} characters, not the address", repr=False)
    name: DisplayName


def client_address(request: Request) -> str:
    """Where a request comes from, as far as the server in front of this application says."""
    return request.client.host if request.client else "unknown"


@router.post(
    "/register",
    permission=PUBLIC,
    status_code=201,
    problems=[RegistrationClosed, EmailTaken, EmailMalformed, WeakPassword, TooManyAttempts, ProviderUnavailable],
)
async def register(request: Request, outside: Outside, body: Registration) -> Registered:
    """Make an account and a personal workspace. Log in at /auth/v1/login, or by OpenID Connect."""
    typed = Credentials(email=body.email, password=body.password, address=client_address(request))
    return await outside.accounts.register(typed, body.name)
