"""The CloudEvents 1.0 envelope, in Kafka binary mode: attributes in `ce_` headers, data as the value.

Source: CloudEvents 1.0.2 and its Kafka protocol binding; `traceparent` follows W3C Trace Context.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

HEADER_LIMIT = 8 * 1024
EVENT_LIMIT = 64 * 1024
_LARGEST = 2**63 - 1
_YEARS = range(1970, 9000)


class EnvelopeError(ValueError):
    """The headers of a record are no envelope; the sentence says which attribute is wrong."""


class Envelope(NamedTuple):
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
        headers = {
            "ce_specversion": "1.0",
            "ce_id": str(self.id),
            "ce_type": self.type,
            "ce_source": self.source,
            "ce_time": self.time.isoformat(),
            "ce_sourceepoch": str(self.source_epoch),
            "content-type": "application/json",
        }
        if self.workspace_id is not None:
            headers["ce_workspaceid"] = str(self.workspace_id)
        if self.operation_id is not None:
            headers["ce_operationid"] = str(self.operation_id)
        if self.causation_id is not None:
            headers["ce_causationid"] = str(self.causation_id)
        if self.actor_id:
            headers["ce_actorid"] = self.actor_id
        if self.sequence is not None:
            headers["ce_sequence"] = str(self.sequence)
        if self.traceparent:
            headers["traceparent"] = self.traceparent
        return headers

    @classmethod
    def from_headers(cls, headers: Mapping[str, str], parse_uuid: Callable[[str], UUID] = UUID) -> "Envelope":
        """Read an envelope back; raises EnvelopeError for a missing or malformed attribute.

        `parse_uuid` may be a faster reader of the 36 characters than the standard library's.
        """
        get = headers.get
        try:
            id = parse_uuid(headers["ce_id"])
            workspace, operation, causation = get("ce_workspaceid"), get("ce_operationid"), get("ce_causationid")
            sequence, epoch = get("ce_sequence"), int(get("ce_sourceepoch", "1"))
            number = None if sequence is None else int(sequence)
            time = datetime.fromisoformat(headers["ce_time"])
            kind, source, actor, trace = headers["ce_type"], headers["ce_source"], get("ce_actorid"), get("traceparent")
            if time.tzinfo is None or time.year not in _YEARS:
                raise ValueError("ce_time has no time zone, or lies in another age")
            if not 0 < epoch <= _LARGEST or (number is not None and not 0 < number <= _LARGEST):
                raise ValueError("ce_sequence and ce_sourceepoch count from 1 and fit into 64 bits")
            if "\x00" in kind or "\x00" in source or (actor and "\x00" in actor) or (trace and "\x00" in trace):
                raise ValueError("an attribute holds U+0000")
            return cls(
                id,
                kind,
                source,
                time,
                parse_uuid(workspace) if workspace else None,
                parse_uuid(operation) if operation else None,
                parse_uuid(causation) if causation else None,
                actor,
                number,
                epoch,
                trace,
            )
        except KeyError as missing:
            raise EnvelopeError(f"the record has no {missing.args[0]} header") from missing
        except ValueError as wrong:
            raise EnvelopeError(f"an envelope header is malformed: {wrong}") from wrong
