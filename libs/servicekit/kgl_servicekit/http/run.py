"""`run`: the one call of an endpoint. A use case in a transaction, whose result is the answer."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar, cast
from uuid import UUID

from fastapi import Depends
from starlette.requests import Request

from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.signals import Signals
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.http.exchange import Answer, Exchange, Reply, exchange_of
from kgl_servicekit.http.idempotency import claim, claim_of, keep
from kgl_servicekit.http.result import json_of
from kgl_servicekit.ids import fast_uuid7

if TYPE_CHECKING:
    from kgl_servicekit.http.routing import ApiRoute

R = TypeVar("R")
C = TypeVar("C")


class Runs(Protocol):
    """What the kit needs of the service's database."""

    @property
    def signals(self) -> Signals: ...

    async def run(
        self,
        workspaces: UUID | Iterable[UUID],
        use_case: Callable[[Transaction, C], Awaitable[R]],
        command: C,
        *,
        cause: Cause | None = None,
    ) -> R: ...

    async def ping(self) -> None: ...


class Replay(Exception):
    """The request was answered before; this is that answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("answered before")
        self.answer = answer


class Runner:
    """Runs use cases for one request: in its workspace, caused by it.

    Under POST the result is turned into the answer's JSON inside the transaction, by the route's response
    model, so that the answer and its repeats for the same Idempotency-Key are the same bytes. So a POST
    endpoint calls this once, and returns what it gives.
    """

    def __init__(self, database: Runs, request: Request) -> None:
        self._database = database
        self._request = request
        self._exchange: Exchange = exchange_of(request)
        self._route = cast("ApiRoute", request.scope["route"])

    async def __call__(
        self,
        use_case: Callable[[Transaction, C], Awaitable[R]],
        command: C,
        *,
        reply: Callable[[R], Reply] | None = None,
        workspaces: Sequence[UUID] | None = None,
    ) -> R:
        """The result of the use case, committed; `reply` makes headers or a status from it.

        `workspaces` are those of the transaction, on a route that may be about others than the caller's.

        Raises what the use case raises; RequestInFlight (409) while a twin with the same Idempotency-Key
        runs, IdempotencyKeyReused (422) when it came with another body.
        """
        if self._exchange.method != "POST":
            result = await self.read(use_case, command, workspaces=workspaces)
            if reply is not None:
                self._exchange.reply = reply(result)
            return result
        if self._exchange.answer is not None:
            raise RuntimeError(f"{self._route.path} runs twice; use run.read for what is not the answer")
        key = await claim_of(self._request, self._exchange, self._route)

        async def answer(tx: Transaction, command: C) -> tuple[R, Answer] | Replay:
            if key is not None and (before := await claim(tx, key)) is not None:
                return Replay(before)
            result = await use_case(tx, command)
            made = self._answer(result, reply(result) if reply else Reply())
            if key is not None:
                await keep(tx, key, made)
            return result, made

        outcome = await self.read(answer, command, workspaces=workspaces)
        if isinstance(outcome, Replay):
            raise outcome
        result, self._exchange.answer = outcome
        return result

    async def read(
        self,
        use_case: Callable[[Transaction, C], Awaitable[R]],
        command: C,
        *,
        workspaces: Sequence[UUID] | None = None,
    ) -> R:
        """The result of a use case that is not the answer: a transaction of its own, never replayed."""
        caller = self._exchange.caller
        own = caller.workspace_if_named if caller else None
        scope: UUID | Sequence[UUID] = (own or ()) if workspaces is None else workspaces
        cause = Cause(
            id=fast_uuid7(),
            kind="request",
            actor=caller.principal if caller else f"service:{self._exchange.service}",
            traceparent=self._exchange.trace.traceparent,
        )
        return await self._database.run(scope, use_case, command, cause=cause)

    def _answer(self, result: Any, reply: Reply) -> Answer:
        route = self._route
        body = b"" if route.response_field is None else json_of(route, result)
        return Answer(reply.status or route.status_code or 200, dict(reply.headers), body)


async def _runner(request: Request) -> Runner:
    return Runner(request.app.state.database, request)


Run = Annotated[Runner, Depends(_runner)]
