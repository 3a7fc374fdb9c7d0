"""Drafts, by hand and from modules."""

from dataclasses import dataclass
from uuid import UUID

from kgl_content.db import items
from kgl_content.domain.items import DocumentGone, Draft, Item, ItemNotFound, after
from kgl_content.domain.tags import item_tag
from kgl_content.jobs.declared import DraftContent
from kgl_contracts.ai import ContentGenerated, Summary
from kgl_contracts.content import ItemDrafted
from kgl_contracts.ingest import DocumentDeleted
from kgl_servicekit.database import last_results
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, SUPERSEDED, Verdict
from kgl_servicekit.http.conditional import Condition
from kgl_servicekit.ids import derived_id


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftItem:
    """A draft that somebody wrote."""

    kind: str
    title: str
    body: str
    document_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EditItem:
    """New words for an item whose present state the author knows; None leaves a part as it is."""

    id: UUID
    title: str | None
    body: str | None
    match: Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordGenerated:
    """A text that a module wrote about a document version."""

    document_id: UUID
    version: int
    module: str
    kind: str
    sha256: str
    summary: Summary


async def draft_item(tx: Transaction, command: DraftItem) -> Item:
    """Make a draft. Raises DocumentGone when it is about a deleted document."""
    if command.document_id is not None and await items.is_deleted(tx, command.document_id):
        raise DocumentGone
    item = tx.new_id("item")
    draft = Draft(title=command.title, body=command.body, sources=[], author=tx.cause.actor)
    await items.add(tx, item, command.kind, draft, document=command.document_id, module=None)
    await tx.emit(ItemDrafted(item_id=item, version=1, kind=command.kind, document_id=command.document_id))
    made = await items.find(tx, item)
    assert made is not None
    return made


async def edit_item(tx: Transaction, command: EditItem) -> Item:
    """Make a new version, which is a draft again. Raises ItemNotFound, PreconditionFailed, IllegalTransition."""
    item = await items.find(tx, command.id, lock=True)
    if item is None:
        raise ItemNotFound
    command.match.check(item_tag(item))
    after(item.state, "edit")
    draft = Draft(
        title=item.title if command.title is None else command.title,
        body=item.body if command.body is None else command.body,
        sources=item.sources,
        author=tx.cause.actor,
    )
    return await _new_version(tx, item, draft)


async def request_draft(tx: Transaction, event: ContentGenerated) -> Verdict:
    """Have a module's text made a draft, unless the document has moved on."""
    if not await items.hear(tx, event.document_id, event.version):
        await tx.report(f"content.draft.{event.module}", "superseded")
        return SUPERSEDED
    await last_results.note(tx, event.document_id, event.module, event.kind, event.version, event.sha256)
    job = DraftContent(
        document_id=event.document_id,
        version=event.version,
        module=event.module,
        kind_of_text=event.kind,
        result_object=event.result_object,
        sha256=event.sha256,
    )
    await tx.start_job(job)
    return DONE


async def record_generated(tx: Transaction, command: RecordGenerated) -> Verdict:
    """Make a module's text a draft; the same text again changes nothing, another one is a new version.

    A version that somebody has submitted or approved is not touched: it is about what they have read.
    """
    if not await items.hear(tx, command.document_id, command.version):
        return SUPERSEDED
    scope = (command.document_id, command.module, command.kind, command.version)
    if not await last_results.is_last(tx, *scope, command.sha256):
        return SUPERSEDED
    summary = command.summary
    draft = Draft(
        title=summary.title,
        body=summary.text,
        sources=[span.model_dump(mode="json") for span in summary.sources],
        author=f"module:{command.module}",
    )
    item = await items.find_generated(tx, command.document_id, command.module, command.kind)
    if item is None:
        made = derived_id("item", tx.workspace, command.document_id, command.module, command.kind)
        await items.add(tx, made, command.kind, draft, document=command.document_id, module=command.module)
        await tx.emit(ItemDrafted(item_id=made, version=1, kind=command.kind, document_id=command.document_id))
    elif _differs(item, draft) and item.state not in {"submitted", "approved"}:
        await _new_version(tx, item, draft)
    return DONE


def _differs(item: Item, draft: Draft) -> bool:
    """The same words about other places are another text: those of an older version are not there any more."""
    return (item.title, item.body, item.sources) != (draft.title, draft.body, draft.sources)


async def is_gone(tx: Transaction, document_id: UUID) -> bool:
    """Whether the document is deleted."""
    return await items.is_gone(tx, document_id)


async def unlink_document(tx: Transaction, event: DocumentDeleted) -> Verdict:
    """Drafts about a deleted document go; what was published loses its link."""
    await items.hear(tx, event.document_id, event.version, deleted=True)
    await last_results.forget(tx, event.document_id)
    drafts, links = await items.unlink(tx, event.document_id)
    await tx.report("content.unlink", "done", removed={"drafts": drafts, "links": links})
    return DONE


async def _new_version(tx: Transaction, item: Item, draft: Draft) -> Item:
    version = item.version + 1
    await items.replace_words(tx, item.id, version, draft)
    await tx.emit(ItemDrafted(item_id=item.id, version=version, kind=item.kind, document_id=item.document_id))
    made = await items.find(tx, item.id)
    assert made is not None
    return made
