"""Decoding a record, before any transaction is open."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from kgl_contracts.envelope import Envelope, EnvelopeError
from kgl_servicekit.bus.port import StoredRecord
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.events.subscription import Event, Handled, Subscription


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record of a subscription's topic, as far as it could be read.

    `event` and `handled` are None for a type that the subscription does not take; `unreadable` says why a
    record cannot be decoded.
    """

    record: StoredRecord
    envelope: Envelope | None
    event: Event[Any] | None = None
    handled: Handled | None = None
    unreadable: str | None = None

    @property
    def key(self) -> str:
        return self.record.key

    @property
    def workspace_id(self) -> UUID | None:
        return self.envelope.workspace_id if self.envelope else None

    def workspaces(self) -> tuple[UUID, ...]:
        """The workspaces that the handler works in."""
        if self.event is not None and self.handled is not None and self.handled.workspaces is not None:
            return tuple(sorted(set(self.handled.workspaces(self.event.data))))
        return () if self.workspace_id is None else (self.workspace_id,)

    def cause(self) -> Cause:
        """This event as the cause of what its handler does."""
        assert self.envelope is not None
        return Cause(
            id=self.envelope.id,
            kind="event",
            actor=self.envelope.actor_id or f"service:{self.envelope.source}",
            at=self.envelope.time,
            operation_id=self.envelope.operation_id,
            traceparent=self.envelope.traceparent,
        )


def decode(subscription: Subscription, record: StoredRecord, corrected: bytes | None = None) -> Delivery:
    """Read a record; never raises. `corrected` replaces its value."""
    try:
        envelope = Envelope.from_headers(record.headers)
    except EnvelopeError as wrong:
        return Delivery(record, None, unreadable=str(wrong))
    handled = subscription.handlers.get(envelope.type)
    if handled is None:
        return Delivery(record, envelope)
    try:
        data = handled.model.model_validate_json(record.value if corrected is None else corrected)
    except ValidationError as wrong:
        places = "; ".join(f"{'/'.join(map(str, e['loc']))}: {e['msg']}" for e in wrong.errors()[:5])
        return Delivery(record, envelope, handled=handled, unreadable=f"{envelope.type}: {places}")
    return Delivery(record, envelope, Event(data, envelope), handled)
