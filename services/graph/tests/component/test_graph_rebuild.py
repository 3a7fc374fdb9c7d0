"""The search index is built anew while documents come, change and go."""

from collections import Counter
from collections.abc import Awaitable, Callable

from kgl_contracts.audit import RecordMade
from kgl_contracts.operations import OperationStarted, ReceiptProgressed, SnapshotRequested
from kgl_contracts.topics import DOCUMENTS, REPLAY_GRAPH_DOCUMENTS
from kgl_graph.rebuilds.testing import (
    Source,
    in_peace,
    index,
    indexed_texts,
    ordered,
    rebuild,
    rebuilt_twice_alike,
    working,
)
from kgl_graph.testing import GraphKit
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.ids import uuid7


async def test_a_rebuild_makes_what_is_there_already_and_a_second_one_changes_nothing(
    graph: GraphKit, source: Source
) -> None:
    await rebuilt_twice_alike(graph, source)
    left = await graph.rows("select count(*) as n from consumer_position where subscription like '%@%'")
    assert left == [{"n": 0}]
    assert not [group for _, group, _ in source.bus.committed if "@" in group]


async def test_nothing_leaves_a_rebuild_but_the_order_of_its_snapshot_a_receipt_and_a_record(
    graph: GraphKit, source: Source
) -> None:
    events = "select type, count(*) as n from outbox_log group by type order by type"
    before, jobs = await graph.rows(events), await graph.rows("select count(*) as n from job")
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await source.snapshot()
    await task
    after = {row["type"]: row["n"] for row in await graph.rows(events)}
    its_own = {
        SnapshotRequested.event_type: 1,
        OperationStarted.event_type: 1,
        ReceiptProgressed.event_type: 2,
        RecordMade.event_type: 1,
    }
    assert after == Counter({row["type"]: row["n"] for row in before}) + Counter(its_own)
    assert await graph.rows("select count(*) as n from job") == jobs


async def test_rows_that_are_wrong_missing_or_of_nothing_are_put_right(graph: GraphKit, source: Source) -> None:
    before = await index(graph)
    await graph.rows("update chunk set text = 'forged', version = 7 where text = 'boats' returning id")
    await graph.rows("delete from chunk where text = 'bread and salt' returning id")
    await graph.rows("delete from chunk_vector where chunk_id = (select min(id::text)::uuid from chunk) returning 1")
    await graph.rows("insert into indexed_document values ($1, $2, 3) returning version", graph.workspace, uuid7())
    await graph.rows(
        """insert into chunk (workspace_id, id, document_id, version, ordinal, start, "end", title, text)
           values ($1, $2, $3, 1, 0, 0, 5, '', 'ghost') returning id""",
        graph.workspace,
        uuid7(),
        uuid7(),
    )
    assert await index(graph) != before
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await source.snapshot()
    await task
    assert await index(graph) == before


async def test_what_comes_changes_and_goes_while_it_runs_is_right_afterwards(graph: GraphKit, source: Source) -> None:
    kept, changed, _, gone = list(source.documents)
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    await source.upload("came before the snapshot")  # in the snapshot and after the cut
    await source.upload("changed words", document=changed, version=2)
    short_lived = await source.upload("came and went")
    await source.snapshot(most=2)
    await source.delete(short_lived)
    await source.delete(kept)  # told as living already
    await source.snapshot()
    await source.upload("came after the snapshot")
    await task
    await source.upload("came after the swap")
    await in_peace(graph, source)
    assert await indexed_texts(graph) == await source.texts()
    assert source.documents[gone] is None
    live = await index(graph)
    again = rebuild(graph, source.bus)
    await ordered(graph, again)
    source.told = 0
    await source.snapshot()
    await again
    assert await index(graph) == live


async def test_a_version_that_was_parsed_before_an_older_one_stays_the_searchable_one(
    graph: GraphKit, source: Source
) -> None:
    document = uuid7()
    task = rebuild(graph, source.bus)
    await ordered(graph, task)
    older = await graph.parsed(document, 1, ["older words"])
    await source.tell(await graph.parsed(document, 2, []))
    await source.tell(older)
    await source.snapshot()
    await task
    await in_peace(graph, source)
    assert "older words" not in await indexed_texts(graph)
    assert await graph.rows("select version from indexed_document where document_id = $1", document) == [{"version": 2}]


class BusyBus(MemoryBus):
    """Whoever asks for the ends gets them, and at once more is told and handled, as under constant traffic."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def end_offsets(self, topic: str) -> dict[int, int]:
        ends = await super().end_offsets(topic)
        if self.meanwhile is not None and topic == DOCUMENTS.name:
            act, self.meanwhile = self.meanwhile, None
            await act()
        return ends


async def test_the_swap_waits_until_all_is_read_that_the_live_subscription_has_handled(graph: GraphKit) -> None:
    bus = BusyBus()
    await bus.declare([DOCUMENTS, REPLAY_GRAPH_DOCUMENTS])
    source = Source(graph, bus)
    async with working(graph, bus):
        document = await source.upload("old words")
        await in_peace(graph, source)
        task = rebuild(graph, bus)
        await ordered(graph, task)

        async def traffic() -> None:
            await source.upload("new words", document=document, version=2)
            await source.upload("a late document")
            await in_peace(graph, source)  # the live job has written to the tables that are about to go

        bus.meanwhile = traffic
        await source.snapshot()
        await task
        assert await indexed_texts(graph) == ["a late document", "new words"]
