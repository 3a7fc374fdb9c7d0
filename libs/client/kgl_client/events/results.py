"""Results of a module: events whose ids are the same each time that the same event is handled."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID, uuid5

from kgl_contracts.envelope import EVENT_LIMIT, HEADER_LIMIT, Envelope
from kgl_contracts.event import EventData
from kgl_contracts.topics import MODULE_RESULTS

_NAMESPACE = UUID("6b676c00-0000-5000-8000-6d6f64756c65")


class ResultRefused(Exception):
    """What a handler gave cannot be a result of this module; no retry changes that."""


@dataclass(frozen=True, slots=True)
class Result:
    """One event that a module publishes; `value` is its data as JSON."""

    envelope: Envelope
    data: EventData
    value: bytes

    @property
    def key(self) -> str:
        return self.data.key


def result_id(module: str, cause: UUID, event_type: str, ordinal: int) -> UUID:
    """The id of the n-th result (from 1) of a type that a module gives for an event."""
    return uuid5(_NAMESPACE, "\x1f".join((module, str(cause), event_type, str(ordinal))))


def results_of(module: str, cause: Envelope, given: Iterable[EventData]) -> tuple[Result, ...]:
    """The results of one event, with ids and times that a repeat gives again.

    Raises ResultRefused for what is no event, a type that a module may not publish, or more than 64 KB.
    """
    ordinals: Counter[str] = Counter()
    made = []
    for data in given:
        if not isinstance(data, EventData):
            raise ResultRefused(f"{type(data).__name__} is no event; declare a subclass of EventData")
        ordinals[data.event_type] += 1
        made.append(_result(module, cause, data, ordinals[data.event_type]))
    return tuple(made)


def _result(module: str, cause: Envelope, data: EventData, ordinal: int) -> Result:
    if data.topic != MODULE_RESULTS and not data.event_type.startswith(f"x.{module}."):
        raise ResultRefused(f"{data.event_type} is not a module's to publish; name it x.{module}.*")
    envelope = Envelope(
        id=result_id(module, cause.id, data.event_type, ordinal),
        type=data.event_type,
        source=module,
        time=cause.time,
        workspace_id=cause.workspace_id,
        operation_id=cause.operation_id,
        causation_id=cause.id,
        actor_id=f"module:{module}",
        traceparent=cause.traceparent,
    )
    value = data.model_dump_json().encode()
    size = len(value) + sum(len(name) + len(text) for name, text in envelope.headers().items())
    if size > EVENT_LIMIT or size - len(value) > HEADER_LIMIT:
        raise ResultRefused(f"{data.event_type} has {size} bytes; an event has {EVENT_LIMIT} at most")
    return Result(envelope, data, value)
