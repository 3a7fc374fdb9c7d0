"""A module's events over HTTP: pull, handle, have the results accepted, commit. For whoever has no broker."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from loguru import logger

from kgl_client.api import Api, ApiProblem, ApiUnreachable
from kgl_client.events.dead_letters import DeadLetterFile
from kgl_client.events.module import EventModule
from kgl_client.events.results import Result
from kgl_client.events.settling import DeadLetter, Incoming, Retry, settle

Accept = Callable[[Sequence[Result]], Awaitable[None]]
Place = Literal["received", "handled", "acknowledged", "committed"]

_WAIT_SECONDS = 15
_PAUSE = 1.0
_OURS_NO_MORE = {"lease_over", "consumer_leased"}


class HttpEvents:
    """Runs a module's handlers on `/events/v1`, in the workspace of the API's key.

    `accept` takes the results of one event: it returns when they are taken, and raises ApiProblem when they are
    not. It may get the same results again, with the same ids. By default they are posted to `/modules/v1/results`,
    which takes answers to requests (`ai.*.given.v1`). Of consumers with one name, one works at a time;
    the others wait for it to die. A dead letter is a line in the file `dead_letters`.
    """

    def __init__(
        self,
        module: EventModule,
        api: Api,
        accept: Accept | None = None,
        *,
        dead_letters: Path | None = None,
        retry: Retry = Retry(),
        at_once: int = 20,
        lease_seconds: float = 30.0,
        passing: Callable[[Place], None] = lambda place: None,
    ) -> None:
        self._module = module
        self._api = api
        self._accept = accept or self._give
        self._dead_letters = DeadLetterFile(dead_letters or Path(f"{module.name}.dead-letters.jsonl"))
        self._retry = retry
        self._at_once = at_once
        self._lease_seconds = lease_seconds
        self._passing = passing
        self._url = f"/events/v1/consumers/{module.name}"

    async def work(self) -> None:
        """Handle events until cancelled; outages are waited out.

        Raises ApiProblem for what only a person can mend, such as a missing permission, or `events_lost`: the
        module was away for longer than events are kept.
        """
        declared = False
        while True:
            try:
                if not declared:
                    await self._api.request("PUT", self._url, json=self._wanted())
                    declared = True
                await self._pull()
            except (ApiUnreachable, ApiProblem) as out:
                if isinstance(out, ApiProblem) and out.code not in _OURS_NO_MORE and not _is_outage(out):
                    raise
                logger.bind(module=self._module.name, error=str(out)).warning("module.waiting")
                await asyncio.sleep(_PAUSE)

    async def redrive(self) -> int:
        """Handle all dead letters once more; the answer is how many. What fails again is a new dead letter."""
        handled = 0
        for event in self._dead_letters.take():
            await self._settle(event)
            handled += 1
        return handled

    def _wanted(self) -> dict[str, Any]:
        return {"topics": list(self._module.topics), "types": sorted(self._module.models), "start": "earliest"}

    async def _pull(self) -> None:
        asked = {"max": self._at_once, "wait_seconds": _WAIT_SECONDS, "lease_seconds": self._lease_seconds}
        pulled = await self._api.post(f"{self._url}:pull", asked)
        if not pulled["events"]:
            return
        lease = _Lease(self._api, self._url, pulled["token"], self._lease_seconds)
        async with lease.kept():
            for event in pulled["events"]:
                self._passing("received")
                await self._settle(event)
                self._passing("acknowledged")
                await lease.commit(event["position"])
                self._passing("committed")

    async def _settle(self, event: Mapping[str, Any]) -> None:
        outcome = await settle(self._module, _incoming(event), self._retry)
        self._passing("handled")
        if not isinstance(outcome, DeadLetter) and outcome:
            try:
                await self._accept(outcome)
            except ApiProblem as refused:
                if _is_outage(refused):
                    raise
                outcome = DeadLetter("result_refused", str(refused), 1)
        if isinstance(outcome, DeadLetter):
            log = logger.bind(module=self._module.name, event=event.get("id"))
            log.bind(reason=outcome.reason, error=outcome.error).error("module.dead_letter")
            await asyncio.to_thread(self._dead_letters.add, event, outcome)

    async def _give(self, results: Sequence[Result]) -> None:
        for result in results:
            event = _cloud_event(result)
            workspace = {"Kgl-Workspace": str(result.envelope.workspace_id)}
            # a repeat may say something else under the same id, and is no conflict: the first one is taken
            key = f"{result.envelope.id}-{hashlib.sha256(result.value).hexdigest()[:16]}"
            await self._api.post("/modules/v1/results", event, repeat_key=key, headers=workspace)


class _Lease:
    """The events of one pull, which are ours as long as this is kept."""

    def __init__(self, api: Api, url: str, token: int, seconds: float) -> None:
        self._api = api
        self._url = url
        self._token = token
        self._seconds = seconds
        self._position = 0

    async def commit(self, position: int, *, release: bool = False) -> None:
        """All up to a position is done; raises ApiProblem `lease_over` when the events are somebody else's."""
        body = {"token": self._token, "position": position, "lease_seconds": self._seconds, "release": release}
        key = f"{self._url}/{self._token}/{position}/{release}"
        await self._api.post(f"{self._url}:commit", body, repeat_key=key)
        self._position = position

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep the lease inside; what is not done by then is given up, so that nobody has to wait for it."""
        keeping = asyncio.create_task(self._keep())
        try:
            yield
        except BaseException:
            keeping.cancel()
            with contextlib.suppress(ApiUnreachable, ApiProblem, TimeoutError):
                async with asyncio.timeout(5):
                    await self.commit(self._position, release=True)
            raise
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / 3)
            body = {"token": self._token, "position": self._position, "lease_seconds": self._seconds}
            with contextlib.suppress(ApiUnreachable, ApiProblem):
                await self._api.post(f"{self._url}:commit", body)


def _is_outage(problem: ApiProblem) -> bool:
    return problem.status >= 500 or problem.status == 429


def _cloud_event(result: Result) -> dict[str, Any]:
    attributes = result.envelope.headers().items()
    event = {name.removeprefix("ce_"): value for name, value in attributes if name != "content-type"}
    data = {"subject": result.key, "datacontenttype": "application/json", "data": json.loads(result.value)}
    return event | data


def _incoming(event: Mapping[str, Any]) -> Incoming:
    """The same attributes as in Kafka's binary mode, so that both transports are read by the same code."""
    headers = {f"ce_{name}": str(value) for name, value in event.items() if name != "data"}
    if "traceparent" in event:
        headers["traceparent"] = event["traceparent"]
    return Incoming(headers, json.dumps(event.get("data")).encode())
