"""Records of security-relevant acts, emitted by every service and kept by auth."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field, JsonValue

from kgl_contracts.event import EventData, with_example
from kgl_contracts.topics import AUDIT

_WORKSPACE = "0198f3a0-0000-7000-8000-000000000010"


class RecordMade(EventData, type="audit.record.made.v1", topic=AUDIT, key="scope", consumers=("auth",)):
    """Who did what to what, and whether it was allowed. Never a secret, a token or document text."""

    model_config = with_example(
        scope=_WORKSPACE,
        record_id="0198f3a0-0000-7000-8000-000000000012",
        actor="user:0198f3a0-0000-7000-8000-000000000011",
        action="document.delete",
        target="document:0198f3a0-0000-7000-8000-000000000001",
        outcome="allowed",
        details={},
        at="2026-11-23T12:00:00Z",
    )

    scope: str = Field(description="the workspace id, or `instance` for acts outside of any workspace")
    record_id: UUID
    actor: str
    action: str
    target: str
    outcome: Literal["allowed", "denied"]
    details: dict[str, JsonValue] = Field(default_factory=dict)
    at: datetime
