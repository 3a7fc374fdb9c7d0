"""The events of one document in every order over topics end in one state."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import pytest

from kgl_content.db.tables import METADATA, UNSCOPED
from kgl_content.testing import ContentKit, content_kit
from kgl_contracts.ai import Span
from kgl_contracts.event import EventData
from kgl_contracts.ingest import DocumentDeleted
from kgl_servicekit.database.core_schema import CORE_TABLES
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.ids import derived_id
from kgl_servicekit.testing.orders import call_back, dump, empty, interleavings, jobs_left, put_off
from kgl_servicekit.testing.postgres import PostgresForTests

DOCUMENT = UUID("0198f3a0-0000-7000-8000-0000000000aa")
TABLES = sorted(set(METADATA.tables) - set(CORE_TABLES) - UNSCOPED)
# how many drafts came before the newest one depends on what a module said in time; its words do not
WITHOUT = frozenset({"version"})
MODES = ("jobs at once", "jobs at the end", "jobs of version 1 last")
# of kgl.documents this service takes the end alone, so that it comes anywhere among the results
TEXTS = ("g1", "other", "g2")


@pytest.fixture
async def content(postgres: PostgresForTests) -> AsyncIterator[ContentKit]:
    async with content_kit(postgres) as kit:
        yield kit


async def events(content: ContentKit) -> dict[str, EventData]:
    """The module says the same of both versions, about other places."""

    def place(version: int) -> tuple[Span, ...]:
        return (Span(chunk_id=derived_id("chunk", version), start=0, end=3),)

    return {
        "g1": await content.generated(DOCUMENT, 1, "the same words", place(1)),
        "other": await content.generated(DOCUMENT, 1, "another voice", place(1), module="scribe"),
        "g2": await content.generated(DOCUMENT, 2, "the same words", place(2)),
        "d": DocumentDeleted(document_id=DOCUMENT, version=2),
    }


async def newest(tx: Transaction, _: None) -> dict[str, list[dict[str, Any]]]:
    """The items, and of their words those of the newest version."""
    await tx.execute(
        """delete from item_version v using item i
           where i.workspace_id = v.workspace_id and i.id = v.item_id and v.version < i.version"""
    )
    return await dump(tx, TABLES, WITHOUT)


async def state_after(content: ContentKit, known: dict[str, EventData], order: list[str], mode: str) -> dict[str, Any]:
    """All that content holds after these events."""
    await content.database.run(content.workspace, empty, TABLES)
    for name in order:
        await content.hear(known[name])
        if mode == "jobs at once":
            await content.work()
    if mode == "jobs of version 1 last":
        await content.database.run((), put_off, 1)
        await content.work()
        await content.database.run((), call_back, None)
    await content.work()
    assert await content.database.run((), jobs_left, None) == []
    return await content.database.run(content.workspace, newest, None)


async def check_all(content: ContentKit, orders: Iterator[list[str]]) -> dict[str, Any]:
    known = await events(content)
    first: dict[str, Any] | None = None
    for order in orders:
        for mode in MODES:
            state = await state_after(content, known, order, mode)
            first = state if first is None else first
            assert state == first, (order, mode)
    assert first is not None
    return first


async def test_every_order_without_a_deletion_ends_in_the_newest_words_of_version_two(content: ContentKit) -> None:
    state = await check_all(content, interleavings(("g1", "g2"), ()))
    (item,) = state["item"]
    (words,) = state["item_version"]
    assert (item["state"], item["module"], item["published_version"]) == ("draft", "reader", None)
    assert (words["item_id"], words["body"]) == (item["id"], "the same words")
    assert [source["chunk_id"] for source in words["sources"]] == [str(derived_id("chunk", 2))]
    assert [row["deleted_at"] for row in state["document"]] == [False]


async def test_every_order_with_a_deletion_ends_in_a_tombstone_and_nothing_else(content: ContentKit) -> None:
    state = await check_all(content, interleavings(("d",), TEXTS))
    assert [row["deleted_at"] for row in state.pop("document")] == [True]
    assert state == {"item": [], "item_version": [], "last_result": []}


async def test_results_that_come_again_with_other_ids_change_nothing(content: ContentKit) -> None:
    known = await events(content)
    for order in interleavings(("d",), ("g1", "g2")):
        await state_after(content, known, order, "jobs at once")
        before = await content.database.run(content.workspace, lambda tx, _: dump(tx, TABLES, frozenset()), None)
        for name in order:
            await content.hear(known[name], copy=1)
        await content.work()
        after = await content.database.run(content.workspace, lambda tx, _: dump(tx, TABLES, frozenset()), None)
        assert after == before
