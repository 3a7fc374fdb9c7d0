"""What a module's author declares: which events it takes, and what it makes of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData, name_and_version
from kgl_contracts.topics import Topic, module_topic

E = TypeVar("E", bound=EventData)


@dataclass(frozen=True, slots=True)
class Event(Generic[E]):
    """An event as a handler gets it: its contract's data, and the attributes that it came with."""

    data: E
    envelope: Envelope

    @property
    def key(self) -> str:
        return self.data.key


class UnknownVersion(Exception):
    """An event of a type that the module takes, in a version that this release does not know."""


Handler = Callable[[Event[E]], Any]


class EventModule:
    """The handlers of one module, by event type. `name` is its identity: ids and topics come from it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.results_topic: Topic = module_topic(name)
        self.models: dict[str, type[EventData]] = {}
        self._handlers: dict[type[EventData], Handler[Any]] = {}

    def on(self, model: type[E]) -> Callable[[Handler[E]], Handler[E]]:
        """Declare the handler of one event type: `async def` that returns an event, several or None, or yields them.

        Events of the versions that it replaces come as this one.

        It may be called again for the same event, in this process or another; what it does outside must
        allow that. TypeError for a topic that is not public, or a second handler of a type.
        """
        if not model.topic.public:
            raise TypeError(f"{model.event_type} is internal; modules take events of public topics")
        for version in model.versions():
            if version.event_type in self.models:
                raise TypeError(f"{self.name} has two handlers for {version.event_type}")

        def declare(handle: Handler[E]) -> Handler[E]:
            self.models |= dict.fromkeys((version.event_type for version in model.versions()), model)
            self._handlers[model] = handle
            return handle

        return declare

    def read(self, event_type: str, value: bytes) -> EventData | None:
        """The data of an event as the version that the module declared; None for a type that it does not take.

        Raises pydantic's ValidationError, and UnknownVersion for a version that this release cannot read yet.
        """
        model = self.models.get(event_type)
        if model is not None:
            return model.read(next(v for v in model.versions() if v.event_type == event_type), value)
        name, _ = name_and_version(event_type)
        if any(name == name_and_version(known)[0] for known in self.models):
            raise UnknownVersion(event_type)
        return None

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that hold what this module takes; TypeError while it takes nothing."""
        if not self.models:
            raise TypeError(f"module {self.name} has no handler; declare one with @events.on(...)")
        return tuple(sorted({model.topic.name for model in self.models.values()}))

    async def handle(self, event: Event[Any]) -> list[EventData]:
        """Call the handler of an event; the answer is all that it gave. Raises what the handler raises."""
        given = self._handlers[type(event.data)](event)
        if hasattr(given, "__aiter__"):
            return [data async for data in given]
        given = await given
        if given is None:
            return []
        # a pydantic model is iterable, too: over its fields
        if isinstance(given, EventData) or not isinstance(given, Iterable):
            return [given]
        return list(given)
