"""The smallest service on the core: commands that emit, handlers that leave effects, and an operator."""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from kgl_contracts.graph import DocumentIndexed
from kgl_contracts.ingest import DocumentDeleted
from kgl_contracts.topics import DOCUMENTS, GRAPH
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Conflict, NotFound, Unavailable
from kgl_servicekit.events import dead_letters
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.dead_letters import DeadLetter
from kgl_servicekit.events.redrive import Redriver
from kgl_servicekit.events.refill import refill
from kgl_servicekit.events.relay import Relay
from kgl_servicekit.events.subscription import DONE, Event, Reject, Subscription, Verdict
from kgl_servicekit.ids import uuid7
from tests.simulation.loop import PROCESS
from tests.simulation.simulated_bus import SimulatedBus
from tests.simulation.world import World

WORKSPACE = UUID("00000000-0000-7000-8000-000000000001")


@dataclass(frozen=True, slots=True)
class Command:
    """What a client asks for: events of these keys with these payloads, in one transaction."""

    events: tuple[tuple[UUID, int], ...]


@dataclass(slots=True)
class Behaviour:
    """How the handlers take payloads: `raises` so often, `outages` so often, `rejects` or `poisons` until fixed."""

    raises: dict[int, int] = field(default_factory=dict)
    outages: dict[int, int] = field(default_factory=dict)
    rejects: set[int] = field(default_factory=set)
    poisons: set[int] = field(default_factory=set)
    fixable: set[int] = field(default_factory=set)
    discards: set[int] = field(default_factory=set)


class Service:
    """The subscriptions, and what their handlers do."""

    def __init__(self, world: World, *, attempts: int, batch: int, batched: bool, chain: bool, shared: bool) -> None:
        self._world = world
        self.behaviour = Behaviour()
        self._chain = chain
        self._shared = shared
        options: dict[str, Any] = {
            "attempts": attempts,
            "backoff": 0.05,
            "backoff_limit": 0.5,
            "gap_patience": 3600.0,
            "batch": batch,
            "reject_share": 1.0,
        }
        self.documents = Subscription("counter.documents", topic=DOCUMENTS, **options)
        self.graph = Subscription("counter.graph", topic=GRAPH, **options)
        if batched:
            self.documents.on_batch(DocumentDeleted)(self._on_many)
        else:
            self.documents.on(DocumentDeleted)(self._on_document)
        self.graph.on(DocumentIndexed)(self._on_indexed)
        self.subscriptions = (self.documents, self.graph) if chain else (self.documents,)

    async def _on_many(self, tx: Transaction, events: Sequence[Event[DocumentDeleted]]) -> list[Verdict]:
        return [await self._on_document(tx.under(event), event) for event in events]

    async def _on_document(self, tx: Transaction, event: Event[DocumentDeleted]) -> Verdict:
        verdict = await self._behave(tx, self.documents.name, event, event.data.version)
        if self._chain and verdict is DONE:
            data = event.data
            await tx.emit(DocumentIndexed(document_id=data.document_id, version=data.version, chunk_count=0))
        return verdict

    async def _on_indexed(self, tx: Transaction, event: Event[DocumentIndexed]) -> Verdict:
        return await self._behave(tx, self.graph.name, event, event.data.version)

    async def _behave(self, tx: Transaction, name: str, event: Event[Any], payload: int) -> Verdict:
        history, behaviour, id = self._world.history, self.behaviour, event.envelope.id
        history.tries[id] = history.tries.get(id, 0) + 1
        history.same_id(tx.new_id("thing"), id, "thing")
        await tx.execute(
            "insert into effect (subscription, key, sequence, event_id, payload) values ($1, $2, $3, $4, $5)",
            name,
            event.key,
            event.envelope.sequence,
            id,
            payload,
        )
        if self._shared:
            await tally(tx, "all")
        await tally(tx, event.key)
        if name == self.documents.name:
            if payload in behaviour.rejects:
                history.rejected.add(id)
                await tx.execute("delete from effect where event_id = $1 and subscription = $2", id, name)
                return Reject("not liked")
            if behaviour.raises.get(payload, 0) > 0 or payload in behaviour.poisons | behaviour.fixable:
                behaviour.raises[payload] = behaviour.raises.get(payload, 0) - 1
                history.raised[id] = history.raised.get(id, 0) + 1
                raise RuntimeError(f"{payload} hurts")
            if behaviour.outages.get(payload, 0) > 0:
                behaviour.outages[payload] -= 1
                raise Unavailable("A store is out.", retry_after=1)
        return DONE


async def tally(tx: Transaction, name: str) -> None:
    """A row that many transactions change."""
    await tx.execute(
        "insert into tally (name, value) values ($1, 1) on conflict (name) do update set value = tally.value + 1", name
    )


async def make(tx: Transaction, command: Command) -> None:
    """The command's own row, and its events."""
    key = str(command.events[0][0])
    await tx.execute("insert into made (cause, key, events) values ($1, $2, $3)", tx.cause.id, key, len(command.events))
    for document, payload in command.events:
        await tx.emit(DocumentDeleted(document_id=document, version=payload), workspace=WORKSPACE)


class Writer:
    """A client and its requests; what it was told is history. It does not repeat a request."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self._left = list(commands)

    async def __call__(self, world: World, database: Database, _: SimulatedBus) -> None:
        while self._left:
            command = self._left.pop(0)
            cause = Cause(id=uuid7(), kind="request", actor="user:1")
            world.history.asked.add(cause.id)
            try:
                await database.run(WORKSPACE, make, command, cause=cause)
            except Unavailable:
                continue
            world.history.acked.add(cause.id)


class RelayRole:
    """A relay under a name of its own."""

    def __init__(self, worker: str, batch: int, lease: float) -> None:
        self._worker, self.batch, self.lease = worker, batch, lease

    async def __call__(self, world: World, database: Database, bus: SimulatedBus) -> None:
        relay = Relay(database, bus, worker=self._worker, batch=self.batch, lease=self.lease, lives_every=0.5)
        world.relays.append(relay)
        life = PROCESS.get()
        assert life is not None
        life.memory["relay"] = relay
        await relay.run()


class WorkerRole:
    """Consumers and a redriver in one process."""

    def __init__(self, service: Service, *, redrives: bool = True) -> None:
        self._service, self._redrives = service, redrives

    async def __call__(self, world: World, database: Database, bus: SimulatedBus) -> None:
        loops = [SubscriptionRunner(database, bus, s).run() for s in self._service.subscriptions]
        if self._redrives:
            loops.append(Redriver(database, *self._service.subscriptions, interval=3.0).run())
        await asyncio.gather(*loops)


class Operator:
    """Looks at dead letters and at a bus that has forgotten, and decides."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, world: World, database: Database, _: SimulatedBus) -> None:
        while True:
            with contextlib.suppress(Unavailable, Conflict, NotFound):
                await self._look(world, database)
            await asyncio.sleep(0.3)

    async def _look(self, world: World, database: Database) -> None:
        told = {topic for relay in world.relays if relay.lost is not None for topic in relay.lost.topics}
        lost = sorted(told | world.known_lost)
        if lost:
            await database.run((), refill, lost)
            world.known_lost.clear()
            for relay in world.relays:
                relay.lost = None
        if not any(row["state"] == "dead" for row in world.rows("held_event")):
            return  # an operator is called; he does not look all the time
        for row in await database.run((), self._dead, None):
            payload = json.loads(row["value"])["version"]
            await self._decide(world, database, row, payload)

    async def _decide(self, world: World, database: Database, row: Any, payload: int) -> None:
        behaviour = self._service.behaviour
        subscription = next(s for s in self._service.subscriptions if s.name == row["subscription"])
        letter = DeadLetter(subscription, row["id"])
        if payload in behaviour.discards:
            world.history.discarded.add(row["event_id"])
            await database.run((), dead_letters.discard, (letter, "not wanted"))
        elif payload in behaviour.fixable or (payload not in behaviour.poisons | behaviour.rejects):
            behaviour.fixable.discard(payload)
            behaviour.raises.pop(payload, None)
            await database.run((), dead_letters.redrive, letter)

    async def _dead(self, tx: Transaction, _: None) -> list[Any]:
        return await tx.fetch(
            "select id, subscription, event_id, reason, value from held_event where state = 'dead' order by id"
        )
