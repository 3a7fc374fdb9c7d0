"""Asking auth itself, when the replica cannot tell."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import orjson
from loguru import logger
from pydantic import ValidationError

from kgl_servicekit.errors import Problem
from kgl_servicekit.identity.checked import CheckAnswer, Checked
from kgl_servicekit.identity.credential import fingerprint
from kgl_servicekit.identity.problems import (
    CredentialMalformed,
    IdentityUnavailable,
    KeyInvalid,
    SessionEnded,
    TokenExpired,
    TokenInvalid,
    WorkspaceDenied,
    WorkspaceMalformed,
    WorkspaceMismatch,
)
from kgl_servicekit.identity.short_cache import ShortCache

KEPT_SECONDS = 1.5
_TIMEOUT = httpx.Timeout(3.0, connect=1.0)
_MOST_KEPT = 10_000
_LARGEST_ANSWER = 64 * 1024


_KNOWN: dict[str, type[Problem]] = {
    problem.code: problem
    for problem in (
        CredentialMalformed,
        TokenInvalid,
        TokenExpired,
        SessionEnded,
        KeyInvalid,
        WorkspaceDenied,
        WorkspaceMismatch,
        WorkspaceMalformed,
    )
}
_BY_STATUS: dict[int, type[Problem]] = {400: WorkspaceMalformed, 401: TokenInvalid, 403: WorkspaceDenied}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What auth said; a refusal is an outcome too, so that it is kept like an answer."""

    checked: Checked | None
    refusal: type[Problem] | None = None


class AuthClient:
    """One question at a time for each credential; its answer is kept for 1.5 s, an outage as well."""

    def __init__(self, client: httpx.AsyncClient, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._url = url
        self._clock = clock
        self._outcomes: ShortCache[_Outcome] = ShortCache("auth_check", _MOST_KEPT, clock)
        self._out_until = 0.0

    async def check(self, authorization: str, workspace_hint: str | None) -> Checked:
        """What auth says of a credential. Raises 400, 401, 403 as auth does; Unavailable when it cannot say."""

        async def ask() -> tuple[_Outcome, float]:
            return await self._ask(authorization, workspace_hint), KEPT_SECONDS

        outcome = await self._outcomes.get(fingerprint(authorization, workspace_hint), ask)
        if outcome.refusal is not None:
            raise outcome.refusal
        assert outcome.checked is not None
        return outcome.checked

    def forget(self) -> None:
        """Ask anew from now on: something has changed that an answer may have been made from."""
        self._outcomes.clear()

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, authorization: str, workspace_hint: str | None) -> _Outcome:
        if self._clock() < self._out_until:
            raise IdentityUnavailable(retry_after=2)
        headers = {"Authorization": authorization, "Accept": "application/json"}
        if workspace_hint is not None:
            headers["Kgl-Workspace"] = workspace_hint
        try:
            response = await self._client.get(self._url, headers=headers, timeout=_TIMEOUT, follow_redirects=False)
        except httpx.HTTPError as error:
            raise self._out(type(error).__name__) from error
        if response.status_code != 200 and response.status_code not in _BY_STATUS:
            raise self._out(f"status {response.status_code}")
        try:
            return _outcome(response)
        except (ValidationError, ValueError) as wrong:
            raise self._out("unreadable answer") from wrong

    def _out(self, reason: str) -> IdentityUnavailable:
        self._out_until = self._clock() + KEPT_SECONDS
        logger.bind(reason=reason).warning("auth.check_failed")
        return IdentityUnavailable(retry_after=2)


def _outcome(response: httpx.Response) -> _Outcome:
    content = orjson.loads(response.content[:_LARGEST_ANSWER])
    if response.status_code != 200:
        code = content.get("code") if isinstance(content, dict) else None
        return _Outcome(None, _KNOWN.get(str(code), _BY_STATUS[response.status_code]))
    answer = CheckAnswer.model_validate(content)
    return _Outcome(answer.checked()) if answer.session_active else _Outcome(None, SessionEnded)
