"""A whole system in one thread: a database, a broker, processes that live and die, and the history that they leave."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from kgl_contracts.topics import ALL, GRAPH
from kgl_servicekit.database.engine import Database
from tests.simulation.broker import Broker
from tests.simulation.connection import SimulatedDatabase, Wires
from tests.simulation.determinism import wall_clock
from tests.simulation.loop import PROCESS, Life, Loop
from tests.simulation.scheduler import Scheduler
from tests.simulation.schema import Schema, world_metadata
from tests.simulation.server import Server, Session
from tests.simulation.simulated_bus import SimulatedBus

SCHEMA = Schema(world_metadata())
PARTITIONS = 2
Role = Callable[["World", Database, SimulatedBus], Awaitable[None]]


@dataclass(slots=True)
class History:
    """What happened outside of the database: what clients were told, what handlers did, what was made under a cause."""

    acked: set[UUID] = field(default_factory=set)
    asked: set[UUID] = field(default_factory=set)
    tries: dict[UUID, int] = field(default_factory=dict)
    raised: dict[UUID, int] = field(default_factory=dict)
    rejected: set[UUID] = field(default_factory=set)
    discarded: set[UUID] = field(default_factory=set)
    made_ids: dict[tuple[Any, ...], UUID] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    lost_topics: set[str] = field(default_factory=set)
    cut_topics: set[str] = field(default_factory=set)

    def violated(self, what: str) -> None:
        if what not in self.violations:
            self.violations.append(what)

    def same_id(self, made: UUID, *place: Any) -> None:
        """A repeat under the same cause must make the same identifier."""
        if self.made_ids.setdefault(place, made) != made:
            self.violated(f"a repeat made another id: {place[-1]}")


class World:
    """The servers, and the processes by name."""

    def __init__(self, seed: int, trace: bool) -> None:
        self.seed = seed
        self.loop = Loop()  # type: ignore[abstract]
        self.scheduler = Scheduler(seed, self.loop)
        self.random = self.scheduler.random
        if trace:
            self.scheduler.trace = []
        self.server = Server(SCHEMA, wall_clock(self.loop), self._victim)
        self.broker = Broker(self.scheduler)
        self.wires = Wires(self.scheduler)
        self.history = History()
        self.quiet = False
        self.unfinished = False
        """Whether a race has begun that the faults should not end before."""
        self.killed = False
        self.roles: dict[str, Role] = {}
        self.lives: list[Life] = []
        self.relays: list[Any] = []
        self.known_lost: set[str] = set()
        """Topics that an operator refills without being told by a relay."""
        self.on_statement: Callable[[str], None] = lambda sql: None
        self.restarting = True
        self.scheduler.on_kill = self._killed
        self.broker.committed = self._mirrored

    def _victim(self, cycle: list[Session]) -> Session:
        return cycle[0] if self.scheduler.in_line else self.random.choice(cycle)

    def prepare(self, shards: Sequence[int]) -> None:
        """The rows that the first migration makes, and the topics."""
        session = self.server.connect("migration")
        statements = [("insert into source (id, epoch) values (1, 1)", ())]
        statements += [("insert into relay_shard (shard) values ($1)", (shard,)) for shard in shards]  # type: ignore[misc]
        for sql, args in statements:
            session.start(sql, args)
            session.outcome()
        session.close()
        for topic in ALL:
            self.broker.begin_life(topic.name, PARTITIONS)

    def start(self, name: str, role: Role) -> None:
        """Begin a process; it is begun anew whenever it dies."""
        self.roles[name] = role
        life = Life(name)
        self.lives.append(life)
        self.scheduler.lives.append(life)
        context = copy_context()
        context.run(PROCESS.set, life)
        context.run(self._begin, role, life, context)

    def _begin(self, role: Role, life: Life, context: Any) -> None:
        async def live() -> None:
            database = SimulatedDatabase(self.server, self.scheduler, self.wires, self._watch, context)
            bus = SimulatedBus(self.broker)
            while True:
                try:
                    await database.start()
                    break
                except Exception:
                    await asyncio.sleep(0.2)
            try:
                await role(self, database, bus)
            except Exception as error:
                self.history.violated(f"{life.name} ended by itself: {error!r}")

        self.loop.create_task(live(), context=context)

    def _killed(self, life: Life) -> None:
        self.killed = True
        for session in life.sessions:
            delay = 0.0 if self.random.random() < 0.7 else self.random.random() * 3
            self.loop.call_later(delay, session.close)
        gone = 0.0 if self.random.random() < 0.5 else self.random.random() * 4
        self.loop.call_later(gone, self.broker.bury, life)
        if self.restarting:
            again = self.random.choice((0.0, 0.05, 1.0, 7.0))
            self.loop.call_later(again, partial(self.start, life.name, self.roles[life.name]))

    def _watch(self, sql: str, args: Sequence[Any]) -> None:
        """The events of an event are the same at each try."""
        self.on_statement(sql)
        if "insert into outbox_log" not in sql:
            return
        rows = zip(*args, strict=True) if isinstance(args[0], list) else [args]
        ordinals: dict[Any, int] = {}
        for row in rows:
            event_id, topic, kind, causation = row[0], row[1], row[3], row[7]
            if causation not in self.history.asked and topic == GRAPH.name:
                place = (causation, kind)
                ordinals[place] = ordinals.get(place, 0) + 1
                self.history.same_id(event_id, *place, ordinals[place], "event")

    def _mirrored(self, topic: str, group: str, partition: int, offset: int) -> None:
        """What is told to the bus is never ahead of what is stored."""
        if topic in self.history.lost_topics:
            return  # a member of the former life may not know yet that it is over
        life = self.broker.logs[topic].incarnation
        for row in self.server.tables["consumer_position"].committed():
            place = (row["subscription"], row["topic"], row["incarnation"], row["partition"])
            if place == (group, topic, life, partition) and offset > row["next"]:
                self.history.violated(f"I1 {group} told the bus {offset} and has {row['next']}")

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The committed rows."""
        return self.server.tables[table].committed()

    def pass_time(self) -> bool:
        """Nothing can be chosen: go to the next timer. False when there is none."""
        at = self.loop.next_timer()
        if at is None:
            return False
        self.loop.advance(at)
        self._end_idle_sessions()
        self.loop.run_ready()
        return True

    def _end_idle_sessions(self) -> None:
        """`idle_in_transaction_session_timeout = 5s`, here of frozen processes."""
        for life in self.scheduler.lives:
            if life.frozen_until is not None:
                for session in list(life.sessions):
                    work = session.work
                    if (
                        work is not None
                        and not session.busy
                        and self.server.now() - work.started > timedelta(seconds=5)
                    ):
                        self.scheduler.note(life.name, "session idle in transaction: ended")
                        session.close()

    def bury(self) -> None:
        """End all tasks, with every question failing at once, so that nothing is left of the schedule."""
        self.scheduler.over = True
        self.restarting = False
        for life in self.lives:
            life.dead = False
            if life.frozen_until is not None:
                self.loop.thaw(life)
        for question in self.scheduler.waiting:
            if not question.future.done():
                question.future.cancel()
        tasks = [task for life in self.lives for task in life.tasks if not task.done()]
        for _ in range(200):
            for task in tasks:
                task.cancel()
            self.loop.run_ready()
            tasks = [task for life in self.lives for task in life.tasks if not task.done()]
            if not tasks:
                break
            at = self.loop.next_timer()
            if at is not None:
                self.loop.advance(at)
        for life in self.lives:
            for task in life.tasks:
                if task.done() and not task.cancelled():
                    task.exception()
