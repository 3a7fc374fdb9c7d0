"""What a service says of the events that it takes: a subscription, and one handler for each type."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData
from kgl_contracts.topics import Topic

E = TypeVar("E", bound=EventData)


@dataclass(frozen=True, slots=True)
class Event(Generic[E]):
    """A decoded event: its contract's data, and the attributes that it came with."""

    data: E
    envelope: Envelope

    @property
    def key(self) -> str:
        return self.data.key


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
H = TypeVar("H", bound=Handler)


@dataclass(frozen=True, slots=True)
class Handled:
    """How one type is handled; `stage` of the receipt is reported when the event fails.

    `workspaces` names those of an event that speaks of several; otherwise it is the envelope's.
    """

    model: type[EventData]
    handle: Handler
    stage: str | None
    workspaces: Callable[[Any], Iterable[UUID]] | None


class Subscription:
    """A named handler set on a topic: the unit of consumer group, position and holds.

    `attempts` and the back-off (seconds) are those of an event whose handler raises.
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
        batch: int = 200,
    ) -> None:
        self.name = name
        self.topic = topic
        self.attempts = attempts
        self.backoff = backoff
        self.backoff_limit = backoff_limit
        self.gap_patience = gap_patience
        self.batch = batch
        self.handlers: dict[str, Handled] = {}

    def on(
        self,
        model: type[EventData],
        *,
        stage: str | None = None,
        workspaces: Callable[[Any], Iterable[UUID]] | None = None,
    ) -> Callable[[H], H]:
        """Declare the handler of one event type. It does no I/O but its transaction."""

        def declare(handle: H) -> H:
            if not self.topic.carries(model.topic):
                raise TypeError(f"{model.event_type} is on {model.topic.name}, not on {self.topic.name}")
            if model.event_type in self.handlers:
                raise TypeError(f"{self.name} has two handlers for {model.event_type}")
            self.handlers[model.event_type] = Handled(model, handle, stage, workspaces)
            return handle

        return declare
