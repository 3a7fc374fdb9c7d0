"""Decoding a record, before any transaction is open."""

import hashlib
from typing import Any, NamedTuple
from uuid import UUID

from asyncpg.pgproto.pgproto import UUID as _UUID  # a subclass of the standard one, read ten times as fast
from pydantic import ValidationError

from kgl_contracts.envelope import Envelope, EnvelopeError
from kgl_servicekit.bus.port import StoredRecord
from kgl_servicekit.events.subscription import Event, Handled, Subscription
from kgl_servicekit.ids import derived_id

_LONGEST_KEY = 512


class Delivery(NamedTuple):
    """A record of a subscription's topic, as far as it could be read.

    `event` and `handled` are None for a type that the subscription does not take; `unreadable` says why a
    record cannot be decoded; `unknown_version` that only a later release can read it, and `handled` is then how an
    earlier version is. On an unsequenced topic the envelope's id is made of the workspace, the key and the id that
    came.
    """

    record: StoredRecord
    key: str
    envelope: Envelope | None
    event: Event[Any] | None = None
    handled: Handled | None = None
    unreadable: str | None = None
    unknown_version: bool = False

    def workspaces(self) -> tuple[UUID, ...]:
        """The workspaces that the handler works in."""
        if self.event is not None and self.handled is not None and self.handled.workspaces is not None:
            return tuple(sorted(set(self.handled.workspaces(self.event.data))))
        workspace = self.envelope.workspace_id if self.envelope is not None else None
        return () if workspace is None else (workspace,)


def decode(subscription: Subscription, record: StoredRecord, corrected: bytes | None = None) -> Delivery:
    """Read a record; never raises. `corrected` replaces its value."""
    key = record.key if len(record.key) <= _LONGEST_KEY else _shortened(record.key)
    key = storable(key)
    try:
        envelope = Envelope.from_headers(record.headers, _UUID)
    except EnvelopeError as wrong:
        return Delivery(record, key, None, unreadable=str(wrong))
    if envelope.sequence is None and not subscription.topic.sequenced:
        envelope = envelope._replace(id=_own_id(envelope, key))
    handled = subscription.handlers.get(envelope.type)
    if handled is None:
        known = subscription.earlier(envelope.type)
        return Delivery(record, key, envelope, handled=known, unknown_version=known is not None)
    try:
        data = handled.validate(record.value if corrected is None else corrected)
    except ValidationError as wrong:
        places = "; ".join(f"{'/'.join(map(str, e['loc']))}: {e['msg']}" for e in wrong.errors()[:5])
        return Delivery(record, key, envelope, None, handled, f"{envelope.type}: {places}")
    return Delivery(record, key, envelope, Event(data, envelope), handled)


def _own_id(envelope: Envelope, key: str) -> UUID:
    """Who is no service chooses ids freely: one counts in its workspace and for its key alone."""
    return derived_id("event", envelope.workspace_id, key, envelope.id)


def _shortened(key: str) -> str:
    """A key that fits into an index, and is still one for each long one."""
    return f"{key[:64]}…{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()}"


def storable(text: str) -> str:
    """The text without U+0000, which Postgres cannot keep."""
    return text.replace("\x00", "\ufffd") if "\x00" in text else text
