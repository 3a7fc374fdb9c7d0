"""Submit, approve, reject, publish: one state machine."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from kgl_content.db import items
from kgl_content.domain.items import (
    PUBLISH_PLAN,
    Action,
    Item,
    ItemNotFound,
    OwnVersion,
    PublishedItem,
    after,
    excerpt,
    subject_of,
)
from kgl_content.domain.tags import item_tag
from kgl_contracts.content import ItemApproved, ItemPublished, ItemRejected, ItemSubmitted
from kgl_contracts.event import EventData
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.http.conditional import Condition

_EVENTS: dict[Action, Callable[[Transaction, Item], EventData]] = {
    "submit": lambda tx, item: ItemSubmitted(item_id=item.id, version=item.version),
    "approve": lambda tx, item: ItemApproved(item_id=item.id, version=item.version, reviewer=tx.cause.actor),
    "reject": lambda tx, item: ItemRejected(item_id=item.id, version=item.version, reviewer=tx.cause.actor),
    "publish": lambda tx, item: ItemPublished(
        item_id=item.id,
        version=item.version,
        kind=item.kind,
        title=item.title,
        excerpt=excerpt(item.body),
        content_url=f"/content/v1/items/{item.id}",
        document_id=item.document_id,
        published_at=tx.now,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveItem:
    """An action on an item whose present state the actor knows (`match`)."""

    id: UUID
    action: Action
    match: Condition
    reason: str | None = None
    authors_may_review: bool = True


async def publish_item(tx: Transaction, command: MoveItem) -> PublishedItem:
    """Release an item, with a receipt of what other services do about it. Raises as `move_item`."""
    receipt = await tx.start_operation("content.publish", subject_of(command.id), PUBLISH_PLAN)
    item = await move_item(tx, command, operation=receipt.id)
    return PublishedItem(**item.model_dump(), operation_id=receipt.id)


async def move_item(tx: Transaction, command: MoveItem, *, operation: UUID | None = None) -> Item:
    """Do the action and tell of it, as a part of the operation if there is one.

    Raises: ItemNotFound (404), PreconditionFailed (412), IllegalTransition (409), OwnVersion (403).
    """
    item = await items.find(tx, command.id, lock=True)
    if item is None:
        raise ItemNotFound
    command.match.check(item_tag(item))
    state = after(item.state, command.action)
    if command.action in {"approve", "reject"}:
        if item.author == tx.cause.actor and not command.authors_may_review:
            raise OwnVersion
        await items.decide(tx, item, state, command.reason)
    await items.move(tx, item, state)
    await tx.emit(_EVENTS[command.action](tx, item), operation=operation)
    if command.action != "submit":
        await tx.audit(f"item.{command.action}", f"item:{item.id}", details={"version": item.version})
    moved = await items.find(tx, item.id)
    assert moved is not None
    return moved
