"""The small service that the faults are tried on, made of the kit as the five are: items, and what becomes of them.

A command writes some events of some items in one transaction. The first hop writes an effect for each and emits,
the second writes one for that; an event with `call` also starts a job that calls a server outside, which is the third.
`python -m tests.faults.service api|worker --port n` runs it, set by the environment as the five are.
"""

import asyncio
import os
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count
from typing import cast
from uuid import UUID

import httpx
from pydantic import BaseModel, ConfigDict, Field

from kgl_servicekit.bus.port import Bus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events.subscription import DONE, Event, Reject, Subscription, Verdict
from kgl_servicekit.failpoints import DIED
from kgl_servicekit.http import ApiRouter, Run
from kgl_servicekit.identity.checked import Checked, WorkspaceChoice
from kgl_servicekit.identity.permissions import PERMISSIONS
from kgl_servicekit.identity.problems import TokenInvalid
from kgl_servicekit.jobs.declare import JobData, Jobs
from kgl_servicekit.jobs.job import Job
from kgl_servicekit.service import Service, main
from kgl_servicekit.settings import ServiceSettings
from kgl_servicekit.testing.counter import MIGRATIONS
from tests.faults import tables
from tests.faults.contract import ITEMS, KEY, SOURCE, TAKEN, WORKSPACE, ItemTaken, ItemWritten, Trouble
from tests.faults.shuffling import ShufflingBus

router = ApiRouter(prefix="/commands", tags=["commands"])


class FaultsSettings(ServiceSettings):
    """What the small service has besides the common settings: `downstream` is where its jobs call."""

    downstream: str = ""
    bus_lease: float = Field(default=10.0, description="seconds until a member without a sign of life is given up")
    attempts: int = Field(default=3, description="of an event whose handler raises")
    backoff: float = Field(default=0.2, description="seconds before the first retry")
    reject_share: float = Field(default=1.0, description="of refused events, from which a subscription stands still")
    shuffle: float = Field(default=0.0, description="share of events that the relay's producer sends late")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Write(_Model):
    """One event to be."""

    item: str
    size: int = 0
    trouble: Trouble | None = None
    call: bool = False


class NewCommand(_Model):
    """What a command writes, in this order."""

    writes: tuple[Write, ...] = Field(min_length=1, max_length=100)


class Written(_Model):
    """What it has written: the number of each event within its item."""

    command: UUID
    numbers: tuple[int, ...]


@router.post("", status_code=201, permission="documents:write", deadline=9.0)
async def write(body: NewCommand, run: Run) -> Written:
    """Write events."""
    return await run(_write, body)


async def _write(tx: Transaction, new: NewCommand) -> Written:
    command, items = tx.new_id(), [each.item for each in new.writes]
    totals = {row["name"]: row["value"] for row in await tx.fetch(tables.COUNT, tx.workspace, items)}
    following: dict[str, Iterator[int]] = {item: count(totals[item] - items.count(item) + 1) for item in totals}
    numbers = [next(following[item]) for item in items]
    troubles = [each.trouble for each in new.writes]
    calls = [each.call for each in new.writes]
    await tx.execute(tables.WRITE, tx.workspace, command, items, numbers, troubles, calls)
    for each, number in zip(new.writes, numbers, strict=True):
        await tx.emit(
            ItemWritten(
                item=each.item,
                number=number,
                command=command,
                trouble=each.trouble,
                call=each.call,
                pad="x" * each.size,
            )
        )
    return Written(command=command, numbers=tuple(numbers))


class Call(JobData, kind="faults.call"):
    """Outside work for one event."""

    item: str
    number: int


jobs = Jobs()


@jobs.handles(Call, timeout=5.0, attempts=5, lease=5.0)
async def call(job: Job[Call], outside: httpx.AsyncClient) -> None:
    """Ask the server outside; one that is out spends no attempt."""
    name = f"{job.data.item}/{job.data.number}"
    try:
        answer = await outside.post("/calls", json={"name": name}, headers={"Idempotency-Key": name})
    except httpx.TransportError as lost:
        raise Unavailable(f"downstream: {type(lost).__name__}", retry_after=1) from lost
    if answer.status_code >= 500 or answer.status_code == 429:
        raise Unavailable(f"downstream answers {answer.status_code}", retry_after=1)
    answer.raise_for_status()

    async def called(tx: Transaction, data: Call) -> None:
        await tx.execute(
            tables.TAKE, [tx.workspace], "called", [data.item], [data.number], [None], [None], f"job-{os.getpid()}"
        )

    await job.finish(called, job.data)


def subscriptions(worker: str, settings: FaultsSettings) -> tuple[Subscription, Subscription]:
    """Both hops."""
    items = Subscription(
        "faults.items",
        topic=ITEMS,
        attempts=settings.attempts,
        backoff=settings.backoff,
        backoff_limit=5.0,
        gap_patience=20.0,
        reject_share=settings.reject_share,
    )
    taken = Subscription("faults.taken", topic=TAKEN, backoff=0.2, gap_patience=20.0)

    @items.on_batch(ItemWritten, stage="faults.take")
    async def take(tx: Transaction, events: Sequence[Event[ItemWritten]]) -> Sequence[Verdict]:
        verdicts: list[Verdict] = [DONE] * len(events)
        for place, event in enumerate(events):
            if event.data.trouble is not None and not await tx.fetchval("select exists (select from mended)"):
                verdicts[place] = await _trouble(event.data.trouble)
        done = [event for event, verdict in zip(events, verdicts, strict=True) if verdict is DONE]
        await _take(tx, "taken", done, worker)
        for event in done:
            under, data = tx.under(event), event.data
            await under.emit(ItemTaken(item=data.item, number=data.number))
            if data.call:
                await under.start_job(Call(item=data.item, number=data.number), key=f"{data.item}/{data.number}")
        return verdicts

    @taken.on_batch(ItemTaken)
    async def follow(tx: Transaction, events: Sequence[Event[ItemTaken]]) -> Sequence[Verdict]:
        await _take(tx, "followed", events, worker)
        return [DONE] * len(events)

    return items, taken


async def _take(
    tx: Transaction, hop: str, events: Sequence[Event[ItemWritten]] | Sequence[Event[ItemTaken]], worker: str
) -> None:
    columns: dict[str, list[object]] = defaultdict(list)
    for event in events:
        columns["workspace"].append(event.envelope.workspace_id)
        columns["item"].append(event.data.item)
        columns["number"].append(event.data.number)
        columns["sequence"].append(event.envelope.sequence)
        columns["id"].append(event.envelope.id)
    names = ("item", "number", "sequence", "id")
    await tx.execute(tables.TAKE, columns["workspace"], hop, *(columns[name] for name in names), worker)


async def _trouble(trouble: Trouble) -> Verdict:
    """Behave as the event says."""
    if trouble == "raises":
        raise RuntimeError("this event hurts")
    if trouble == "refuses":
        return Reject("nobody wants this event")
    if trouble == "kills":
        os._exit(DIED)
    if trouble == "hangs":
        await asyncio.Event().wait()
    if random.random() < 0.5:  # hiccups
        raise RuntimeError("this event hurts now and then")
    return DONE


class OneKey:
    """Admits whoever has the key, in the one workspace."""

    session_cookie: str | None = None

    async def check(self, authorization: str, workspace_hint: str | None, *, reading: bool) -> Checked:
        if authorization != f"Bearer {KEY}":
            raise TokenInvalid
        return Checked(principal="key:faults", workspace_id=WORKSPACE, permissions=PERMISSIONS)

    async def workspaces(self, user_id: UUID) -> Sequence[WorkspaceChoice]:
        return []


def build(settings: FaultsSettings, bus: Bus) -> Service:
    """The small service."""
    if hasattr(bus, "lease"):
        bus.lease = settings.bus_lease
    if hasattr(bus, "session"):
        bus.session = settings.bus_lease
    outside = httpx.AsyncClient(base_url=settings.downstream or "http://127.0.0.1:1", timeout=2.0, trust_env=False)
    if settings.shuffle:
        bus = cast(Bus, ShufflingBus(bus, settings.shuffle))
    return Service(
        name=SOURCE,
        settings=settings,
        database=Database(settings.database_url.get_secret_value(), service=SOURCE, pool_size=settings.pool_size),
        bus=bus,
        migrations=MIGRATIONS,
        routers=[("/faults/v1", router)],
        subscriptions=subscriptions(settings.worker_name, settings),
        jobs=jobs,
        outside=outside,
        authority=OneKey(),
    )


if __name__ == "__main__":
    main(FaultsSettings, build)
