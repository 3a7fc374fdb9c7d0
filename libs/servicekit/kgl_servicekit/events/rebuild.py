"""Building a derived table anew while the service goes on working.

A rebuild is a new generation of a subscription. It reads a snapshot, which the owner of the source tells anew
on `kgl.replay.<subscription>`, and then the live topic from the cut, into shadow tables that are swapped in
at the end. Nothing leaves it but those tables: what it may do in a transaction has no emit, job or report.

Why the tables agree at the swap. Let C be the end of the live topic's partitions, taken before the snapshot
was ordered, L the position of the live subscription, R that of the rebuild.

1. An event at or after C is read by the rebuild. An event before C was committed by the owner before the
   order, with the state that it told of; so every page of the snapshot, read later, has its effect.
2. Events of a key are applied in the order of the topic, repeats fall out by sequence, and applying an event
   again, or after a snapshot that has its effect already, changes nothing in the end. So after reading to R
   the shadow tables are what the events before R make, whatever the snapshot overtook.
3. The swap happens in a transaction that holds the rows of L, so that the live subscription stands still, and
   only when R >= L in every partition. Then each event is in the shadow tables (before R), or still to be
   handled by the live subscription (at or after L), whose effect meets the new tables; or both, which is 2.
4. Live jobs come from events before L. What one wrote to the old tables is in the new ones by 3; what one has
   still to write waits for the lock of the swap and goes to the new tables, where it replaces the same thing.

A run that ends anywhere leaves the row in `rebuild`, the positions of its generation and the shadow tables,
each changed in the transaction of its effect; the next run goes on there, or starts anew when the bus has
forgotten the topics, the tables have changed meanwhile, or the snapshot is not whole after a day.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from kgl_contracts.event import EventData
from kgl_contracts.operations import SnapshotEnd, SnapshotRequested
from kgl_contracts.topics import Topic
from kgl_servicekit.database.statements import Statements
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict

Write = Callable[[Statements], Awaitable[None]]
Read = Callable[[Any, Event[Any]], Awaitable[Write]]
R = TypeVar("R", bound=Read)

SILENCE = 60.0
"""Seconds after which a source of which nothing is heard is taken to be out."""


class RebuildRunning(Exception):
    """Another process works on this rebuild; it can be taken over some time after that one has ended."""


class RebuildLost(Exception):
    """Another process has taken this rebuild over."""


class RebuildIncomplete(Exception):
    """The source of some keys cannot be read, so the present tables are kept; `missing` names them."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__(f"the source of {len(missing)} keys cannot be read, such as {', '.join(missing[:5])}")
        self.missing = missing


class SourceSilent(Unavailable, code="source_silent", status=503):
    """The owner of the source does not tell it; its worker has to run."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did: its generation, and how many keys its snapshot had."""

    generation: int
    keys: int


class Rebuild:
    """How one group of derived tables is built anew from what a subscription reads.

    `name` is that of the functions that the service's migration made (`database/shadow_tables.py`), `tables` are those
    that they build. `request` makes the event that asks the owner for a snapshot; by default it is SnapshotRequested.
    """

    def __init__(
        self,
        name: str,
        *,
        subscription: Subscription,
        replay: Topic,
        ended: type[SnapshotEnd],
        tables: tuple[str, ...],
        request: Callable[[UUID], EventData] | None = None,
    ) -> None:
        self.name = name
        self.tables = tables
        self.request = request or (lambda id: SnapshotRequested(snapshot_id=id, subscription=subscription.name))
        self.live = subscription
        self.replay = replay
        self.ended = ended
        self.reads: dict[str, Read] = {}
        self._decoders = {
            topic.name: Subscription(subscription.name, topic=topic) for topic in (subscription.topic, replay)
        }
        self._decoders[replay.name].on(ended)(_never)

    def on(self, model: type[EventData]) -> Callable[[R], R]:
        """Declare what an event of the live or the replay topic means for the shadow tables.

        The function does the outside work, before any transaction is open, and answers with what is then to be
        written in the batch's. It raises JobFailed when the source of the event cannot be read.
        """

        def declare(read: R) -> R:
            self.decoder(model.topic).on(model)(_never)
            self.reads[model.event_type] = read
            return read

        return declare

    def decoder(self, topic: Topic) -> Subscription:
        """What `decode` needs to read a record of a topic."""
        return self._decoders[topic.name]

    def generation(self, number: int) -> str:
        """The name under which a generation keeps its positions."""
        return f"{self.live.name}@rebuild-{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlace:
    """Derived tables that are built anew from the service's own source, one scope after the other in its place.

    `run` replaces each scope as the live path does, under the same locks and without telling of it, and answers how
    many there were. So it needs no shadow tables and no standstill, and may run twice at the same time.
    """

    name: str
    tables: tuple[str, ...]
    run: Callable[[], Awaitable[int]]


async def _never(_tx: Transaction, _event: Event[Any]) -> Verdict:
    """A rebuild's events are read by `Rebuild.reads`; the declaration is for decoding alone."""
    return DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a rebuild: the generation that it works on, and the name that its lease is under."""

    rebuild: Rebuild
    number: int
    owner: UUID
    snapshot_id: UUID
    incarnations: dict[str, str]

    @property
    def generation(self) -> str:
        return self.rebuild.generation(self.number)
