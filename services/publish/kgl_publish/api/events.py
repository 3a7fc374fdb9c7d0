"""/events/v1: the events of a workspace by pull and commit, for whoever has no broker."""

import time
from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from kgl_contracts.catalogue import all_events
from kgl_publish.db import consumers, feeds
from kgl_publish.domain.consumers import (
    Consumer,
    ConsumerLeased,
    ConsumerNotFound,
    ConsumersTooMany,
    EventFilterUnknown,
    EventsLost,
    LeaseOver,
    PositionNotPulled,
    Pulled,
    Start,
)
from kgl_publish.use_cases.pull_events import (
    Commit,
    Pull,
    anything_to_pull,
    commit_events,
    pull_events,
    seek_events,
)
from kgl_publish.use_cases.put_consumer import PutConsumer, put_consumer, read_consumer, remove_consumer
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import PreconditionFailed
from kgl_servicekit.http import ApiRouter, IfMatch, Page, PageParams, Reply, Run, Window, conditional, etag_of, page
from kgl_servicekit.waiting import wait_until_set

router = ApiRouter(tags=["events"])

_PUBLIC = [event for event in all_events() if event.topic.public]
_TOPICS = frozenset(event.topic.name for event in _PUBLIC)
_TYPES = frozenset(event.event_type for event in _PUBLIC)
_LOOK_SECONDS = 2.0

Name = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ConsumerBody(_Body):
    """What a consumer wants; nothing named means all public events. `start` is for a new consumer."""

    topics: tuple[str, ...] = Field(default=(), max_length=20)
    types: tuple[str, ...] = Field(default=(), max_length=50)
    start: Start = "earliest"


class PullBody(_Body):
    """How much to take, and for how long. Times are seconds."""

    max: int = Field(default=50, ge=1, le=200)
    wait_seconds: float = Field(default=0, ge=0, le=20, description="how long to wait for a first event")
    lease_seconds: float = Field(default=60, ge=1, le=3600, description="how long the events are nobody else's")


class CommitBody(_Body):
    """How far you are. Committing the last position again keeps the lease of a long pull."""

    token: int
    position: int = Field(ge=0)
    lease_seconds: float = Field(default=60, ge=1, le=3600, description="for the rest of the pull")
    release: bool = Field(default=False, description="give up the rest of the pull; somebody else may have it")


class SeekBody(_Body):
    """Where to go on."""

    to: Start


@router.put(
    "/consumers/{name}", permission="events:read", problems=[ConsumersTooMany, EventFilterUnknown, PreconditionFailed]
)
async def create_consumer(name: Name, body: ConsumerBody, run: Run, if_match: IfMatch) -> Consumer:
    """Make a consumer, or change what it wants; its position stays."""
    wrong = [(f"#/topics/{n}", topic) for n, topic in enumerate(body.topics) if topic not in _TOPICS]
    wrong += [(f"#/types/{n}", kind) for n, kind in enumerate(body.types) if kind not in _TYPES]
    if wrong:
        raise EventFilterUnknown(errors=[{"pointer": at, "detail": f"{what!r} is none"} for at, what in wrong])
    command = PutConsumer(name, body.topics, body.types, body.start, if_match)

    def reply(result: tuple[Consumer, bool]) -> Reply:
        return Reply({"ETag": etag_of(result[0])}, status=201 if result[1] else 200)

    return (await run(put_consumer, command, reply=reply))[0]


@router.get("/consumers", permission="events:read")
async def get_consumers(window: PageParams, run: Run) -> Page[Consumer]:
    """All consumers of the workspace, by name."""

    async def listed(tx: Transaction, window: Window) -> list[Consumer]:
        return await consumers.list_consumers(tx, str(window.position or ""), window.fetch)

    return page(await run(listed, window), window.limit, lambda consumer: consumer.name)


@router.get("/consumers/{name}", permission="events:read", problems=[ConsumerNotFound])
async def get_consumer(name: Name, request: Request, response: Response, run: Run) -> Consumer:
    """One consumer, with its lag."""
    found = await run(read_consumer, name)
    conditional(request, response, etag_of(found))
    return found


@router.delete(
    "/consumers/{name}", status_code=204, permission="events:read", problems=[ConsumerNotFound, PreconditionFailed]
)
async def delete_consumer(name: Name, run: Run, if_match: IfMatch) -> None:
    """Forget a consumer and its position."""
    await run(remove_consumer, (name, if_match))


@router.post(
    "/consumers/{name}:pull",
    permission="events:read",
    problems=[ConsumerNotFound, ConsumerLeased, EventsLost],
    deadline=40.0,
)
async def pull(name: Name, body: PullBody, request: Request, run: Run) -> Pulled:
    """The events after the committed position, in order for each subject; the same ones until they are committed."""
    command = Pull(name, body.max, body.lease_seconds)
    database: Database = request.app.state.database
    woken = database.signals.subscribe(feeds.LIVE)
    until = time.monotonic() + body.wait_seconds
    try:
        while True:
            woken.clear()
            left = until - time.monotonic()
            if await run.read(anything_to_pull, command) or left <= 0:
                return await run(pull_events, command)
            await wait_until_set(woken, min(left, _LOOK_SECONDS))
    finally:
        database.signals.unsubscribe(feeds.LIVE, woken)


@router.post(
    "/consumers/{name}:commit", permission="events:read", problems=[ConsumerNotFound, LeaseOver, PositionNotPulled]
)
async def commit(name: Name, body: CommitBody, run: Run) -> Consumer:
    """All up to a position is handled. A position before the committed one changes nothing."""
    return await run(commit_events, Commit(name, body.token, body.position, body.lease_seconds, body.release))


@router.post("/consumers/{name}:seek", permission="events:read", problems=[ConsumerNotFound])
async def seek(name: Name, body: SeekBody, run: Run) -> Consumer:
    """Go to the earliest event that is left, or behind the latest. A pull that is being worked on is void."""
    return await run(seek_events, (name, body.to))
