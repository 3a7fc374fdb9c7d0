"""How far a subscription is behind, and that one which does not move is told of."""

import pytest
from prometheus_client import REGISTRY

from kgl_contracts.topics import DOCUMENTS
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events import lag
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.lag import LagWatch
from kgl_servicekit.events.relay import Relay
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import count_and_tell
from kgl_servicekit.testing.events import WORKSPACE, Handler, record, running
from kgl_servicekit.testing.polling import eventually


async def test_what_is_not_settled_counts_over_all_partitions_until_it_is(database: Database, bus: MemoryBus) -> None:
    subscription = Handler().subscription

    watch = LagWatch()

    async def lag_now() -> float | None:
        await watch.measure(database, bus, [subscription])
        return REGISTRY.get_sample_value("kgl_consumer_lag_events", {"subscription": subscription.name})

    async def is_now(events: int) -> bool:
        return await lag_now() == events

    assert await lag_now() == 0
    async with running(Relay(database, bus, worker="a").run):
        for _ in range(5):
            await database.run(WORKSPACE, count_and_tell, uuid7())
        await eventually(lambda: is_now(5))
        async with running(SubscriptionRunner(database, bus, subscription).run):
            await eventually(lambda: is_now(0))
        await database.run(WORKSPACE, count_and_tell, uuid7())
        await eventually(lambda: is_now(1))


async def stands_still(watch: LagWatch) -> bool:
    try:
        await watch.check()
    except Unavailable as told:
        return "counter.documents" in str(told)
    return False


async def test_one_that_is_behind_and_does_not_move_is_told_of_until_it_does(
    database: Database, bus: MemoryBus
) -> None:
    handler, watch = Handler(), LagWatch(patience=0.0)

    async def still() -> bool:
        await watch.measure(database, bus, [handler.subscription])
        return await stands_still(watch)

    async def moves() -> bool:
        return not await still()

    assert not await still()  # nothing waits
    bus.append(record(uuid7(), 1))
    assert await still()
    async with running(SubscriptionRunner(database, bus, handler.subscription).run):
        await eventually(moves)


async def test_one_that_moves_and_stays_behind_is_not_told_of_and_one_partition_without_motion_is(
    database: Database, bus: MemoryBus
) -> None:
    handler, watch = Handler(), LagWatch(patience=0.0)
    place = (handler.subscription.name, DOCUMENTS.name, await bus.incarnation(DOCUMENTS.name))
    for _ in range(200):
        bus.append(record(uuid7(), 1))
    ends = await bus.end_offsets(DOCUMENTS.name)

    async def move(tx: Transaction, to: tuple[int, int]) -> None:
        """To these positions in partitions 0 and 1; in the others all is settled."""
        for partition, position in (ends | dict(enumerate(to))).items():
            await tx.execute(
                "insert into consumer_position (subscription, topic, incarnation, partition, next, from_start)"
                " values ($1, $2, $3, $4, $5, true)"
                " on conflict (subscription, topic, incarnation, partition) do update set next = excluded.next",
                *place,
                partition,
                position,
            )

    found = []
    for to in ((1, 1), (2, 2), (3, 3), (4, 3), (5, 4)):
        await database.run((), move, to)
        await watch.measure(database, bus, [handler.subscription])
        found.append(await stands_still(watch))
    assert found == [False, False, False, True, False]


async def test_nobody_is_blamed_for_an_outage_when_it_is_over(
    database: Database, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, watch = Handler(), LagWatch(patience=0.0)
    monkeypatch.setattr(lag, "_EVERY", 0.01)
    bus.append(record(uuid7(), 1))
    await watch.measure(database, bus, [handler.subscription])
    bus.out = True
    async with running(lambda: watch.run(database, bus, [handler.subscription])):
        await eventually(lambda: _forgot(watch))
    bus.out = False
    await watch.measure(database, bus, [handler.subscription])
    assert not await stands_still(watch)


async def _forgot(watch: LagWatch) -> bool:
    return not watch._seen
