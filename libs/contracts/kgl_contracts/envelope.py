"""The CloudEvents 1.0 envelope, in Kafka binary mode: attributes in `ce_` headers, data as the value.

Source: CloudEvents 1.0.2 and its Kafka protocol binding; `traceparent` follows W3C Trace Context.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

HEADER_LIMIT = 8 * 1024
EVENT_LIMIT = 64 * 1024


class EnvelopeError(ValueError):
    """The headers of a record are no envelope; the sentence says which attribute is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The attributes of one event; `sequence` is None on unsequenced topics."""

    id: UUID
    type: str
    source: str
    time: datetime
    workspace_id: UUID | None = None
    operation_id: UUID | None = None
    causation_id: UUID | None = None
    actor_id: str | None = None
    sequence: int | None = None
    source_epoch: int = 1
    traceparent: str | None = None

    def headers(self) -> dict[str, str]:
        """The headers of the record that carries this event."""
        values = {
            "ce_specversion": "1.0",
            "ce_id": str(self.id),
            "ce_type": self.type,
            "ce_source": self.source,
            "ce_time": self.time.isoformat(),
            "ce_workspaceid": self.workspace_id and str(self.workspace_id),
            "ce_operationid": self.operation_id and str(self.operation_id),
            "ce_causationid": self.causation_id and str(self.causation_id),
            "ce_actorid": self.actor_id,
            "ce_sequence": None if self.sequence is None else str(self.sequence),
            "ce_sourceepoch": str(self.source_epoch),
            "traceparent": self.traceparent,
            "content-type": "application/json",
        }
        return {name: value for name, value in values.items() if value}

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> "Envelope":
        """Read an envelope back; raises EnvelopeError for a missing or malformed attribute."""
        try:
            return cls(
                id=UUID(headers["ce_id"]),
                type=headers["ce_type"],
                source=headers["ce_source"],
                time=datetime.fromisoformat(headers["ce_time"]),
                workspace_id=_uuid(headers.get("ce_workspaceid")),
                operation_id=_uuid(headers.get("ce_operationid")),
                causation_id=_uuid(headers.get("ce_causationid")),
                actor_id=headers.get("ce_actorid"),
                sequence=int(headers["ce_sequence"]) if "ce_sequence" in headers else None,
                source_epoch=int(headers.get("ce_sourceepoch", "1")),
                traceparent=headers.get("traceparent"),
            )
        except KeyError as missing:
            raise EnvelopeError(f"the record has no {missing.args[0]} header") from missing
        except ValueError as wrong:
            raise EnvelopeError(f"an envelope header is malformed: {wrong}") from wrong


def _uuid(value: str | None) -> UUID | None:
    return UUID(value) if value else None
