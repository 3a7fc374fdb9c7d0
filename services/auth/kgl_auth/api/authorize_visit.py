"""A browser on its way from a client to the login page and back."""

import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kgl_auth.api.cookies import give_cookie
from kgl_auth.api.registration import client_address
from kgl_auth.domain.bearer_secrets import new_secret
from kgl_auth.domain.form_tokens import form_token, is_form_token
from kgl_auth.domain.oidc import AuthorizeRefused, AuthorizeRequest, origin_of, with_query
from kgl_auth.outside import AuthOutside
from kgl_auth.stores.accounts import Credentials
from kgl_servicekit.errors import Problem
from kgl_servicekit.http.guard import single


@dataclass(frozen=True, slots=True)
class AuthorizeVisit:
    """What the client asks, in the browser that brings it. Every form's address repeats the client's request."""

    request: Request
    outside: AuthOutside
    asked: AuthorizeRequest

    @property
    def query(self) -> str:
        """The client's request in one spelling, however a browser has spelt it."""
        return urlencode(self.request.query_params.multi_items())

    def page(self, form: str, status: int = 200, refused: Problem | None = None, **values: Any) -> Response:
        """A page with a form, bound to the browser by its pre-session cookie."""
        settings = self.outside.settings
        pre_session = self.request.cookies.get(settings.form_cookie) or new_secret()
        page = self.outside.pages.show(
            form,
            status=status,
            form_target=origin_of(self.asked.redirect_uri),
            action=f"{form}?{self.query}",
            form_token=form_token(pre_session, form, self.query),
            **values,
        )
        give_cookie(page, settings, settings.form_cookie, pre_session)
        if (wait := getattr(refused, "retry_after", None)) is not None:
            page.headers["Retry-After"] = str(math.ceil(wait))
        return page

    def is_ours(self, form: str, token: str) -> bool:
        """Whether a form came from our page in this browser; browsers that name an Origin must name ours."""
        settings = self.outside.settings
        origin = single(self.request, "origin")
        own = origin is None or origin == origin_of(settings.public_url)
        return own and is_form_token(token, self.request.cookies.get(settings.form_cookie), form, self.query)

    def credentials(self, email: str, password: str) -> Credentials:
        """What was typed, with the address that it came from."""
        return Credentials(email=email, password=password, address=client_address(self.request))

    async def log_in(self, typed: Credentials) -> Response:
        """Back to the client with a code. Raises WrongCredentials, TooManyAttempts."""
        code = await self.outside.issuer.log_in(typed, self.asked)
        return _to_client(self.outside, self.asked.redirect_uri, self.asked.state, code=code)


def visit_of(request: Request, outside: AuthOutside) -> AuthorizeVisit | Response:
    """The visit, or the answer to a request that cannot be granted.

    Errors go to the client only when the redirect URI is one of its own; otherwise to the person.
    """
    values = dict(request.query_params)
    client = outside.settings.oidc_client(values.get("client_id", ""))
    repeated = len(values) != len(request.query_params.multi_items())
    if client is None or repeated or values.get("redirect_uri") not in client.redirect_uris:
        sentence = "The application that sent you here is not known, or asks to send you somewhere else."
        return outside.pages.show(
            "message", status=400, title="This login cannot begin", sentence=sentence, link=None, link_text=None
        )
    try:
        return AuthorizeVisit(request, outside, AuthorizeRequest.read(values, client))
    except AuthorizeRefused as refused:
        answer = {"error": refused.error, "error_description": refused.description}
        return _to_client(outside, values["redirect_uri"], values.get("state"), **answer)


def _to_client(outside: AuthOutside, redirect_uri: str, state: str | None, **answer: str) -> Response:
    iss = outside.settings.issuer_url
    return RedirectResponse(with_query(redirect_uri, **answer, state=state, iss=iss), 303)
