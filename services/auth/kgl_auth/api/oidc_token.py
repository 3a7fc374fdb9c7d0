"""The endpoints that OpenID clients call themselves: token, userinfo, logout. Errors are those of RFC 6749."""

from typing import Annotated, Any

from fastapi import Form, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from kgl_auth.db.users import find_user
from kgl_auth.domain.oidc import BROWSER_CLIENT, TokenError, with_query
from kgl_auth.domain.tokens import profile_claims
from kgl_auth.issuer import Tokens
from kgl_auth.outside import AuthOutside, Outside
from kgl_auth.use_cases.redeem import Refused
from kgl_servicekit.errors import Unauthorized
from kgl_servicekit.http import PUBLIC, SESSION, ApiRouter, Caller, Run
from kgl_servicekit.http.exchange import RequestCaller
from kgl_servicekit.http.run import Runner

router = ApiRouter(prefix="/oidc", tags=["openid"])

Sent = Annotated[str | None, Form()]


@router.post("/token", permission=PUBLIC, response_model=None)
async def oidc_token(
    outside: Outside,
    grant_type: Sent = None,
    client_id: Sent = None,
    code: Sent = None,
    redirect_uri: Sent = None,
    code_verifier: Sent = None,
    refresh_token: Sent = None,
) -> Response:
    """Tokens for an authorization code or a refresh token. Clients are public: PKCE stands for a secret."""
    if client_id is None or client_id == BROWSER_CLIENT or outside.settings.oidc_client(client_id) is None:
        return _error("invalid_client", "client_id is none of this issuer's clients", 401)
    if grant_type == "authorization_code":
        if not code or not redirect_uri or not code_verifier:
            return _error("invalid_request", "code, redirect_uri and code_verifier are required")
        outcome = await outside.issuer.redeem_code(
            code=code, client_id=client_id, redirect_uri=redirect_uri, verifier=code_verifier
        )
    elif grant_type == "refresh_token":
        if not refresh_token:
            return _error("invalid_request", "refresh_token is required")
        outcome = await outside.issuer.redeem_refresh_token(refresh_token, client_id)
    else:
        return _error("unsupported_grant_type", "grant_type must be authorization_code or refresh_token")
    return _tokens(outcome)


@router.get("/userinfo", permission=SESSION, cache="no-store")
async def userinfo(caller: Caller, run: Run) -> dict[str, Any]:
    """Who the bearer of the access token is."""
    return await _userinfo(caller, run)


@router.post("/userinfo", permission=SESSION)
async def userinfo_by_post(caller: Caller, run: Run) -> dict[str, Any]:
    """The same for clients that ask by POST."""
    return await _userinfo(caller, run)


@router.get("/logout", permission=PUBLIC, cache="no-store", response_model=None)
async def oidc_logout(
    request: Request,
    outside: Outside,
    id_token_hint: str = "",
    post_logout_redirect_uri: str = "",
    state: Annotated[str | None, Query(max_length=1000)] = None,
) -> Response:
    """End the session of an ID token (RP-initiated logout), and go on to the client if it has registered where."""
    return await _logout(outside, id_token_hint, post_logout_redirect_uri, state)


@router.post("/logout", permission=PUBLIC, response_model=None)
async def oidc_logout_by_post(
    outside: Outside, id_token_hint: Sent = None, post_logout_redirect_uri: Sent = None, state: Sent = None
) -> Response:
    """The same for clients that send a form."""
    return await _logout(outside, id_token_hint or "", post_logout_redirect_uri or "", state)


async def _userinfo(caller: RequestCaller, run: Runner) -> dict[str, Any]:
    user = await run.read(find_user, caller.user_id) if caller.user_id else None
    if user is None:
        raise Unauthorized()
    return {"sub": str(user.id), **profile_claims("profile email", user.email, user.name)}


async def _logout(outside: AuthOutside, hint: str, redirect_uri: str, state: str | None) -> Response:
    claims = await outside.issuer.end_by_id_token(hint)
    if claims is None:
        return _message(outside, 400, "Nobody was logged out", "The application did not say whose login is to end.")
    client = outside.settings.oidc_client(str(claims.get("aud")))
    if client is not None and redirect_uri in client.post_logout_redirect_uris:
        return RedirectResponse(with_query(redirect_uri, state=state), 303)
    return _message(outside, 200, "You are logged out", "Applications notice this within a few seconds.")


def _message(outside: AuthOutside, status: int, title: str, sentence: str) -> Response:
    return outside.pages.show(
        "message", status=status, title=title, sentence=sentence, link="/auth/v1/login", link_text="Log in"
    )


def _tokens(outcome: Tokens | Refused) -> Response:
    if isinstance(outcome, Refused):
        return _error("invalid_grant", outcome.reason)
    return JSONResponse(
        {
            "access_token": outcome.access_token,
            "token_type": "Bearer",
            "expires_in": outcome.expires_in,
            "refresh_token": outcome.refresh_token,
            "id_token": outcome.id_token,
            "scope": outcome.scope,
        }
    )


def _error(error: TokenError, description: str, status: int = 400) -> Response:
    return JSONResponse({"error": error, "error_description": description}, status)
