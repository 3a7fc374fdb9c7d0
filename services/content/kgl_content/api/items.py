"""/content/v1/items: drafts, versions, review."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from kgl_content.db import items
from kgl_content.domain.items import (
    DocumentGone,
    IllegalTransition,
    Item,
    ItemNotFound,
    OwnVersion,
    PublishedItem,
    State,
    Version,
)
from kgl_content.domain.tags import item_tag
from kgl_content.settings import ContentSettings
from kgl_content.use_cases import review_item
from kgl_content.use_cases.draft_item import DraftItem, EditItem, draft_item, edit_item
from kgl_content.use_cases.review_item import MoveItem, move_item
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import PreconditionFailed, PreconditionRequired
from kgl_servicekit.http import ApiRouter, Page, PageParams, Reply, RequiredIfMatch, Run, conditional, page
from kgl_servicekit.http.app import Kit

router = ApiRouter(prefix="/items", tags=["items"])

_CHANGES = [ItemNotFound, IllegalTransition, PreconditionFailed, PreconditionRequired]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewItem(_Body):
    """A draft: title, and body in Markdown."""

    title: str = Field(min_length=1, max_length=300)
    body: str = Field(min_length=1, max_length=100_000)
    kind: str = Field(default="article", pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)
    document_id: UUID | None = None


class ChangedItem(_Body):
    """New words; what is left out stays."""

    title: str | None = Field(default=None, min_length=1, max_length=300)
    body: str | None = Field(default=None, min_length=1, max_length=100_000)


class Rejection(_Body):
    """Why a version is sent back."""

    reason: str = Field(min_length=1, max_length=2000)


class Versions(_Body):
    """All versions of an item, newest first."""

    items: tuple[Version, ...]


class _ListItems(_Body):
    limit: int
    before: tuple[datetime, UUID] | None
    state: str | None
    kind: str | None
    document_id: UUID | None


def _tagged(item: Item) -> Reply:
    return Reply(headers={"ETag": item_tag(item)})


def _with_receipt(item: PublishedItem) -> Reply:
    return Reply(headers={"ETag": item_tag(item), "Location": f"/operations/v1/{item.operation_id}"})


@router.post("", status_code=201, permission="content:write", problems=[DocumentGone])
async def create_item(body: NewItem, run: Run) -> Item:
    """Make a draft."""
    command = DraftItem(kind=body.kind, title=body.title, body=body.body, document_id=body.document_id)
    return await run(draft_item, command, reply=_tagged)


@router.get("", permission="content:read")
async def get_items(
    window: PageParams,
    run: Run,
    state: Annotated[State | None, Query()] = None,
    kind: Annotated[str | None, Query(max_length=64)] = None,
    document_id: UUID | None = None,
) -> Page[Item]:
    """Items, newest first."""
    before = None
    if window.position is not None:
        before = (datetime.fromisoformat(window.position[0]), UUID(window.position[1]))
    asked = _ListItems(limit=window.fetch, before=before, state=state, kind=kind, document_id=document_id)
    found = await run(_listed, asked)
    return page(found, window.limit, lambda item: [item.created_at.isoformat(), str(item.id)])


@router.get("/{item_id}", permission="content:read", problems=[ItemNotFound])
async def get_item(item_id: UUID, request: Request, response: Response, run: Run) -> Item:
    """One item with its newest version. Its ETag goes into If-Match of every change."""
    item = await run(_found, item_id)
    conditional(request, response, item_tag(item))
    return item


@router.get("/{item_id}/versions", permission="content:read", problems=[ItemNotFound])
async def get_versions(item_id: UUID, run: Run) -> Versions:
    """All versions of an item with their reviews."""
    return await run(_versions, item_id)


@router.patch("/{item_id}", permission="content:write", problems=_CHANGES)
async def change_item(item_id: UUID, body: ChangedItem, match: RequiredIfMatch, run: Run) -> Item:
    """Make a new version, which is a draft; what is published stays until the new one is."""
    command = EditItem(id=item_id, title=body.title, body=body.body, match=match)
    return await run(edit_item, command, reply=_tagged)


@router.post("/{item_id}:submit", permission="content:write", problems=_CHANGES)
async def submit_item(item_id: UUID, match: RequiredIfMatch, run: Run) -> Item:
    """Hand the newest version over for review."""
    return await run(move_item, MoveItem(id=item_id, action="submit", match=match), reply=_tagged)


@router.post("/{item_id}:approve", permission="content:review", problems=[*_CHANGES, OwnVersion])
async def approve_item(item_id: UUID, match: RequiredIfMatch, request: Request, run: Run) -> Item:
    """Approve the submitted version."""
    command = MoveItem(id=item_id, action="approve", match=match, authors_may_review=_may_review(request))
    return await run(move_item, command, reply=_tagged)


@router.post("/{item_id}:reject", permission="content:review", problems=[*_CHANGES, OwnVersion])
async def reject_item(item_id: UUID, body: Rejection, match: RequiredIfMatch, request: Request, run: Run) -> Item:
    """Send the submitted version back."""
    command = MoveItem(
        id=item_id, action="reject", match=match, reason=body.reason, authors_may_review=_may_review(request)
    )
    return await run(move_item, command, reply=_tagged)


@router.post("/{item_id}:publish", status_code=202, permission="content:publish", problems=_CHANGES)
async def publish_item(item_id: UUID, match: RequiredIfMatch, run: Run) -> PublishedItem:
    """Release the approved version: the item is published by now, readers and subscribers have it soon.

    The receipt ends when the feed shows it, and lists each delivery to an endpoint.
    """
    return await run(review_item.publish_item, MoveItem(id=item_id, action="publish", match=match), reply=_with_receipt)


def _may_review(request: Request) -> bool:
    kit: Kit = request.app.state.kit
    assert isinstance(kit.settings, ContentSettings)
    return kit.settings.authors_may_review


async def _listed(tx: Transaction, asked: _ListItems) -> list[Item]:
    return await items.listed(
        tx,
        limit=asked.limit,
        before=asked.before,
        state=asked.state,
        kind=asked.kind,
        document=asked.document_id,
    )


async def _found(tx: Transaction, item_id: UUID) -> Item:
    item = await items.find(tx, item_id)
    if item is None:
        raise ItemNotFound
    return item


async def _versions(tx: Transaction, item_id: UUID) -> Versions:
    await _found(tx, item_id)
    return Versions(items=tuple(await items.versions(tx, item_id)))
