"""The authorization endpoint and its two forms: without scripts, and good only in the browser that got them."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import Form
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kgl_auth.api.authorize_visit import AuthorizeVisit, visit_of
from kgl_auth.domain.identity import DisplayName
from kgl_auth.domain.passwords import SHORTEST
from kgl_auth.outside import Outside
from kgl_auth.problems import RegistrationClosed, TooManyAttempts, WrongCredentials
from kgl_servicekit.errors import Invalid, Problem
from kgl_servicekit.http import PUBLIC, ApiRouter

router = ApiRouter(prefix="/oidc", tags=["openid"])

Typed = Annotated[str, Form()]
_NAME = TypeAdapter[str](DisplayName)
_OUT_OF_DATE = "The form was out of date. Try again."


@router.get("/authorize", permission=PUBLIC, cache="no-store", response_model=None)
@router.get("/login", permission=PUBLIC, cache="no-store", response_model=None, include_in_schema=False)
async def authorize(request: Request, outside: Outside) -> Response:
    """Begin a login (authorization code with PKCE S256): answers the login page."""
    visit = visit_of(request, outside)
    return visit if isinstance(visit, Response) else _login_page(visit)


@router.post("/authorize", permission=PUBLIC, response_model=None)
async def authorize_by_post(request: Request, outside: Outside) -> Response:
    """The same for clients that send their request as a form."""
    form = await request.form(max_fields=50, max_files=0)
    values = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    return RedirectResponse(f"{outside.settings.issuer_url}/authorize?{urlencode(values)}", 303)


@router.post("/login", permission=PUBLIC, response_model=None, include_in_schema=False)
async def log_in(
    request: Request, outside: Outside, email: Typed = "", password: Typed = "", form_token: Typed = ""
) -> Response:
    """What the login page sends: on to the client with a code, or the page again."""
    visit = visit_of(request, outside)
    if isinstance(visit, Response):
        return visit
    if not visit.is_ours("login", form_token):
        return _login_page(visit, 403, email=email, wrong=_OUT_OF_DATE)
    try:
        return await visit.log_in(visit.credentials(email, password))
    except WrongCredentials as wrong:
        return _login_page(visit, 400, email=email, wrong=wrong.detail)
    except TooManyAttempts as many:
        return _login_page(visit, 429, many, email=email, wrong=many.detail)


@router.get("/register", permission=PUBLIC, cache="no-store", response_model=None, include_in_schema=False)
async def registration_page(request: Request, outside: Outside) -> Response:
    """The page on which a person makes an account, on the way to a client."""
    visit = visit_of(request, outside)
    return visit if isinstance(visit, Response) else _register_page(visit)


@router.post("/register", permission=PUBLIC, response_model=None, include_in_schema=False)
async def register(
    request: Request,
    outside: Outside,
    name: Typed = "",
    email: Typed = "",
    password: Typed = "",
    form_token: Typed = "",
) -> Response:
    """What the registration page sends: on to the client with a code, or the page again."""
    visit = visit_of(request, outside)
    if isinstance(visit, Response):
        return visit
    if not visit.is_ours("register", form_token):
        return _register_page(visit, 403, name=name, email=email, wrong=_OUT_OF_DATE)
    typed = visit.credentials(email, password)
    try:
        await outside.issuer.register(typed, _NAME.validate_python(name))
        return await visit.log_in(typed)
    except ValidationError:
        return _register_page(visit, 422, name=name, email=email, wrong="Type a name of up to 200 characters.")
    except Problem as refused:
        return _register_page(visit, refused.status, refused, name=name, email=email, wrong=_sentence(refused))


def _login_page(
    visit: AuthorizeVisit,
    status: int = 200,
    refused: Problem | None = None,
    *,
    email: str = "",
    wrong: str | None = None,
) -> Response:
    other = f"register?{visit.query}" if visit.outside.settings.registration_is_open else None
    return visit.page("login", status, refused, email=email, wrong=wrong, register=other)


def _register_page(
    visit: AuthorizeVisit,
    status: int = 200,
    refused: Problem | None = None,
    *,
    name: str = "",
    email: str = "",
    wrong: str | None = None,
) -> Response:
    if not visit.outside.settings.registration_is_open:
        raise RegistrationClosed()
    values = {"name": name, "email": email, "wrong": wrong, "shortest": SHORTEST}
    return visit.page("register", status, refused, login=f"authorize?{visit.query}", **values)


def _sentence(refused: Problem) -> str:
    if isinstance(refused, Invalid):
        return " ".join(place["detail"] for place in refused.errors)
    return refused.detail
