"""Items and their life: draft, submitted, approved or rejected, published."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from kgl_contracts.operations import PlannedStage, Subject
from kgl_servicekit.errors import Conflict, Forbidden, NotFound

State = Literal["draft", "submitted", "approved", "rejected", "published"]
Action = Literal["submit", "approve", "reject", "publish", "edit"]

TRANSITIONS: dict[tuple[State, Action], State] = {
    ("draft", "submit"): "submitted",
    ("draft", "edit"): "draft",
    ("submitted", "approve"): "approved",
    ("submitted", "reject"): "rejected",
    ("rejected", "edit"): "draft",
    ("approved", "publish"): "published",
    ("approved", "edit"): "draft",
    ("published", "edit"): "draft",
}
PUBLISH_PLAN = (PlannedStage(name="publish.feed"),)
"""Stages of publishing an item. Deliveries to endpoints are listed as they are made, and do not hold the end."""

_EXCERPT = 2000
_MARKUP = re.compile(r"!\[[^\]]*\]\([^)]*\)|\[([^\]]*)\]\([^)]*\)|[*_`#>]+|<[^<>]*>")


class ItemNotFound(NotFound, code="item_not_found", status=404):
    """There is no such item in this workspace; check the id and the workspace."""


class DocumentGone(Conflict, code="document_gone", status=409):
    """The document is deleted. Write the draft without it, or about another one."""


class IllegalTransition(Conflict, code="illegal_transition", status=409):
    """The item's `state` does not allow this; `allowed` does."""

    state: str
    allowed: list[str]


class OwnVersion(Forbidden, code="own_version", status=403):
    """Somebody else has to review what you wrote."""


class Item(BaseModel):
    """An item with its newest version; `published_version` is the one that readers see."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    kind: str
    state: State
    version: int
    published_version: int | None
    title: str
    body: str
    sources: list[dict[str, Any]]
    author: str
    document_id: UUID | None
    module: str | None
    created_at: datetime
    updated_at: datetime
    published_at: datetime | None


class PublishedItem(Item):
    """An item that was just published; the receipt tells when readers and subscribers have it."""

    operation_id: UUID


class Version(BaseModel):
    """One version of an item, and what reviewers said of it."""

    model_config = ConfigDict(frozen=True)

    version: int
    title: str
    body: str
    author: str
    created_at: datetime
    decision: Literal["approved", "rejected"] | None
    reviewer: str | None
    reason: str | None
    decided_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The words of a version to be."""

    title: str
    body: str
    sources: list[dict[str, Any]]
    author: str


def subject_of(item: UUID) -> Subject:
    """An item as what an operation works on."""
    return Subject(type="item", id=item)


def after(state: State, action: Action) -> State:
    """The state that an action leads to; raises IllegalTransition."""
    following = TRANSITIONS.get((state, action))
    if following is None:
        raise IllegalTransition(state=state, allowed=sorted(a for s, a in TRANSITIONS if s == state))
    return following


def excerpt(body: str) -> str:
    """The beginning of a Markdown text as plain words, 2,000 characters at most."""
    words = " ".join(_MARKUP.sub(lambda m: m[1] or "", body).split())
    return words if len(words) <= _EXCERPT else words[: _EXCERPT - 1].rstrip() + "…"
