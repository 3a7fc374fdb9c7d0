"""What a service says of the events that it takes: a subscription, and one handler for each type."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData, name_and_version
from kgl_contracts.topics import Topic
from kgl_servicekit.database.cause import Cause

E = TypeVar("E", bound=EventData)


class Event(NamedTuple, Generic[E]):
    """A decoded event: its contract's data, and the attributes that it came with."""

    data: E
    envelope: Envelope

    @property
    def key(self) -> str:
        return self.data.key

    @property
    def cause(self) -> Cause:
        """This event as the cause of what its handler does."""
        return cause_of(self.envelope)


def cause_of(envelope: Envelope) -> Cause:
    """The event with this envelope as the cause of what its handler does."""
    return Cause(
        envelope.id,
        "event",
        envelope.actor_id or f"service:{envelope.source}",
        envelope.time,
        envelope.operation_id,
        envelope.traceparent,
    )


@dataclass(frozen=True, slots=True)
class Done:
    """The effect is in the transaction."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """There is nothing left to do: the event is about something older, or gone."""


@dataclass(frozen=True, slots=True)
class Reject:
    """The event can never be handled as it is; it becomes a dead letter with this reason."""

    reason: str


Verdict = Done | Superseded | Reject
DONE = Done()
SUPERSEDED = Superseded()

Handler = Callable[[Any, Event[Any]], Awaitable[Verdict]]
BatchHandler = Callable[[Any, Sequence[Event[Any]]], Awaitable[Sequence[Verdict]]]
H = TypeVar("H", bound=Handler)
B = TypeVar("B", bound=BatchHandler)


@dataclass(frozen=True, slots=True)
class Handled:
    """How one type is handled; `stage` of the receipt is reported when the event fails.

    `handle` takes one event, or `handle_batch` those that lie next to each other. `workspaces` names those of
    an event that speaks of several; otherwise it is the envelope's. `written` is the version that the data are in,
    if it is an earlier one than that of `model`. `ends_key`: it is handled although its key is held.
    """

    model: type[EventData]
    stage: str | None
    workspaces: Callable[[Any], Iterable[UUID]] | None
    handle: Handler
    handle_batch: BatchHandler | None = None
    written: type[EventData] | None = None
    ends_key: bool = False

    @property
    def validate(self) -> Callable[[bytes], Any]:
        """Reads the data of an event; raises pydantic's ValidationError."""
        if self.written is not None:
            return partial(self.model.read, self.written)
        return self.model.__pydantic_validator__.validate_json


class Subscription:
    """A named handler set on a topic: the unit of consumer group, position and holds.

    attempts, backoff     of an event whose handler raises: tries, and seconds before the first retry
    gap_patience          seconds that a missing event of a key is waited for
    batch                 the most events of one transaction
    reject_share          of 100 events; when more than this share is refused, the subscription pauses, and tries again
    """

    def __init__(
        self,
        name: str,
        *,
        topic: Topic,
        attempts: int = 8,
        backoff: float = 1.0,
        backoff_limit: float = 300.0,
        gap_patience: float = 60.0,
        batch: int = 500,
        reject_share: float = 0.2,
    ) -> None:
        self.name = name
        self.topic = topic
        self.attempts = attempts
        self.backoff = backoff
        self.backoff_limit = backoff_limit
        self.gap_patience = gap_patience
        self.batch = batch
        self.reject_share = reject_share
        self.handlers: dict[str, Handled] = {}
        self._newest: dict[str, Handled] = {}

    def on(
        self,
        model: type[EventData],
        *,
        stage: str | None = None,
        workspaces: Callable[[Any], Iterable[UUID]] | None = None,
        ends_key: bool = False,
    ) -> Callable[[H], H]:
        """Declare the handler of one event type. It does no I/O but its transaction.

        Events of the versions that it replaces come as this one. One that `ends_key` takes the effects of all events
        of its key away, and whatever is handled after it finds that it is superseded: so it does not wait for those
        that are held.
        """

        def declare(handle: H) -> H:
            self._add(Handled(model, stage, workspaces, handle, ends_key=ends_key))
            return handle

        return declare

    def on_batch(
        self,
        model: type[EventData],
        *,
        stage: str | None = None,
        workspaces: Callable[[Any], Iterable[UUID]] | None = None,
    ) -> Callable[[B], B]:
        """Declare a handler of many events at once, for statements over sets; it answers a verdict for each.

        The transaction has the workspaces of all; `tx.under(event)` is the transaction as one of them sees it,
        to emit and to report under it. Row locks are taken in sorted order. A function that is declared for
        several types takes them mixed, as they lie next to each other.
        """

        def declare(handle: B) -> B:
            async def handle_one(tx: Any, event: Event[Any]) -> Verdict:
                return (await handle(tx, [event]))[0]

            self._add(Handled(model, stage, workspaces, handle_one, handle))
            return handle

        return declare

    def _add(self, handled: Handled) -> None:
        model = handled.model
        if not self.topic.carries(model.topic):
            raise TypeError(f"{model.event_type} is on {model.topic.name}, not on {self.topic.name}")
        for version in model.versions():
            if version.event_type in self.handlers:
                raise TypeError(f"{self.name} has two handlers for {version.event_type}")
            self.handlers[version.event_type] = replace(handled, written=None if version is model else version)
        name, _ = name_and_version(model.event_type)
        self._newest[name] = handled

    def earlier(self, event_type: str) -> Handled | None:
        """How the newest version before this one is handled, if this is one that the subscription cannot read yet."""
        name, version = name_and_version(event_type)
        newest = self._newest.get(name)
        if newest is None or version <= name_and_version(newest.model.event_type)[1]:
            return None
        return newest
