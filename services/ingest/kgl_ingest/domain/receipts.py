"""Receipts as they are listed, and chosen."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from kgl_contracts.operations import KINDS
from kgl_servicekit.operations import Receipt


class KnownReceipt(Receipt):
    """A receipt in the list of all; it holds names, ids, codes and times, and nothing that documents say."""

    workspace_id: UUID | None = Field(default=None, description="null for those of the instance")


def _known(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"there are {', '.join(KINDS)}")
    return kind


Kind = Annotated[str, AfterValidator(_known)]
State = Literal["running", "done", "failed", "cancelled"]


class ReceiptFilter(BaseModel):
    """Which receipts; without anything all that may be seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: State | None = None
    kind: str | None = None
    subject: str | None = None
    workspace_id: UUID | None = None
    created_at_gte: datetime | None = None
    created_at_lt: datetime | None = None
    overdue: bool | None = None
