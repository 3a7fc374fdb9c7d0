"""Events of reviewed content, emitted by the content service."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from kgl_contracts.event import EventData, with_example
from kgl_contracts.operations import SnapshotEnd, SnapshotPart
from kgl_contracts.topics import CONTENT, REPLAY_PUBLISH_CONTENT

_ITEM = "0198f3a0-0000-7000-8000-000000000006"
_SNAPSHOT = "0198f3a0-0000-7000-8000-000000000011"
_DOCUMENT = "0198f3a0-0000-7000-8000-000000000001"


class ItemDrafted(EventData, type="content.item.drafted.v1", topic=CONTENT, key="item_id"):
    """A draft exists, from a module's text or by hand."""

    model_config = with_example(item_id=_ITEM, version=1, kind="summary", document_id=_DOCUMENT)

    item_id: UUID
    version: int = Field(ge=1)
    kind: str
    document_id: UUID | None = None


class ItemSubmitted(EventData, type="content.item.submitted.v1", topic=CONTENT, key="item_id"):
    """A version of an item waits for review."""

    model_config = with_example(item_id=_ITEM, version=1)

    item_id: UUID
    version: int = Field(ge=1)


class ItemApproved(EventData, type="content.item.approved.v1", topic=CONTENT, key="item_id"):
    """A reviewer approved a version of an item."""

    model_config = with_example(item_id=_ITEM, version=1, reviewer="user:0198f3a0")

    item_id: UUID
    version: int = Field(ge=1)
    reviewer: str


class ItemRejected(EventData, type="content.item.rejected.v1", topic=CONTENT, key="item_id"):
    """A reviewer sent a version of an item back."""

    model_config = with_example(item_id=_ITEM, version=1, reviewer="user:0198f3a0")

    item_id: UUID
    version: int = Field(ge=1)
    reviewer: str


class ItemPublished(EventData, type="content.item.published.v1", topic=CONTENT, key="item_id", consumers=("publish",)):
    """An approved version of an item is released; title and excerpt are the released words."""

    model_config = with_example(
        item_id=_ITEM,
        version=1,
        kind="summary",
        title="pypdf",
        excerpt="A pure-Python PDF library.",
        content_url=f"/content/v1/items/{_ITEM}",
        document_id=_DOCUMENT,
        published_at="2026-11-23T12:00:00Z",
    )

    item_id: UUID
    version: int = Field(ge=1)
    kind: str
    title: str = Field(max_length=300)
    excerpt: str = Field(max_length=2000)
    content_url: str
    document_id: UUID | None = None
    published_at: datetime


class ItemSnapshotted(
    SnapshotPart,
    type="content.item.snapshotted.v1",
    topic=REPLAY_PUBLISH_CONTENT,
    key="item_id",
    consumers=("publish",),
):
    """What is released of an item now."""

    model_config = with_example(
        snapshot_id=_SNAPSHOT,
        item_id=_ITEM,
        version=2,
        title="pypdf",
        excerpt="A pure-Python PDF library.",
        content_url=f"/content/v1/items/{_ITEM}",
        first_published_at="2026-11-22T12:00:00Z",
        published_at="2026-11-23T12:00:00Z",
    )

    item_id: UUID
    version: int = Field(ge=1, description="the released version")
    title: str = Field(max_length=300)
    excerpt: str = Field(max_length=2000)
    content_url: str
    first_published_at: datetime
    published_at: datetime = Field(description="when that version was released")


class ItemsSnapshotEnded(
    SnapshotEnd,
    type="content.snapshot.ended.v1",
    topic=REPLAY_PUBLISH_CONTENT,
    key="snapshot_id",
    consumers=("publish",),
):
    """All released items of all workspaces were told."""

    model_config = with_example(snapshot_id=_SNAPSHOT, count=120)
