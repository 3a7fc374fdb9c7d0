"""The REST client: requests with a key, problems as exceptions, patience with what is busy."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

_TRIES = 5
_RETRIED_STATUS = {429, 503}
_PASSING_STATUS = {429, 502, 503, 504}
_LONGEST_WAIT = 30.0


class ApiProblem(Exception):
    """The answer is a problem (RFC 9457): `code` is stable, `detail` says what to do."""

    def __init__(self, status: int, code: str, detail: str, members: Mapping[str, Any]) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.members = dict(members)

    @property
    def passes(self) -> bool:
        """Whether the same request may be answered later: something that the system needs is out, or busy."""
        return self.status in _PASSING_STATUS


class ApiUnreachable(Exception):
    """There was no answer, after several tries."""


class Api:
    """The APIs of a system, by an API key or access token.

    A request that is answered with 429 or 503, or not at all, is sent again, up to 5 times in all; POST
    requests only with an `Idempotency-Key`, so that a repeat has no second effect.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        workspace: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        timeout: float = 60.0,
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        if workspace is not None:
            headers["Kgl-Workspace"] = workspace
        self._http = httpx.AsyncClient(
            base_url=url, headers=headers, transport=transport, timeout=timeout, trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def get(self, path: str, **options: Any) -> Any:
        """GET a JSON document; raises ApiProblem, ApiUnreachable."""
        return (await self.request("GET", path, **options)).json()

    async def post(self, path: str, json: Any = None, *, repeat_key: str | None = None, **options: Any) -> Any:
        """POST JSON and read the JSON answer (None for 204). With `repeat_key` it may be sent again safely."""
        headers = dict(options.pop("headers", {}))
        if repeat_key is not None:
            headers["Idempotency-Key"] = repeat_key
        answer = await self.request("POST", path, json=json, headers=headers, **options)
        return answer.json() if answer.content else None

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request; raises ApiProblem for a status of 400 or more, ApiUnreachable without an answer."""
        repeatable = method in {"GET", "HEAD", "PUT", "DELETE"} or "Idempotency-Key" in options.get("headers", {})
        for attempt in range(1, _TRIES + 1):
            last = attempt == _TRIES
            try:
                answer = await self._http.request(method, path, **options)
            except httpx.TransportError as lost:
                if last or not repeatable:
                    raise ApiUnreachable(f"{method} {path}: {type(lost).__name__}") from lost
                await asyncio.sleep(_pause(attempt))
                continue
            if answer.status_code not in _RETRIED_STATUS or last or not repeatable:
                return _checked(answer)
            await asyncio.sleep(_asked_pause(answer, attempt))
        raise AssertionError("unreachable")

    async def items(self, path: str, *, headers: Mapping[str, str] | None = None, **params: Any) -> AsyncIterator[Any]:
        """All items of a list, page by page."""
        cursor = None
        while True:
            asked = {**params, **({"cursor": cursor} if cursor else {})}
            page = await self.get(path, params=asked, headers=dict(headers or {}))
            for item in page["items"]:
                yield item
            cursor = page["next"]
            if cursor is None:
                return

    async def lines(self, path: str, **options: Any) -> AsyncIterator[bytes]:
        """A streamed answer, line by line; raises ApiProblem, and ApiUnreachable where it ends too early, too."""
        try:
            async with self._http.stream("GET", path, **options) as answer:
                if answer.status_code >= 400:
                    await answer.aread()
                    _checked(answer)
                async for line in answer.aiter_lines():
                    yield line.encode()
        except httpx.TransportError as lost:
            raise ApiUnreachable(f"GET {path}: {type(lost).__name__}") from lost


def _pause(attempt: int) -> float:
    return random.uniform(0, min(_LONGEST_WAIT, 0.2 * 2**attempt))  # noqa: S311


def _asked_pause(answer: httpx.Response, attempt: int) -> float:
    try:
        return min(_LONGEST_WAIT, float(answer.headers["Retry-After"])) + random.uniform(0, 0.2)  # noqa: S311
    except (KeyError, ValueError):
        return _pause(attempt)


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.status_code < 400:
        return answer
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    code = str(problem.get("code", f"http_{answer.status_code}"))
    raise ApiProblem(answer.status_code, code, str(problem.get("detail", answer.reason_phrase)), problem)
