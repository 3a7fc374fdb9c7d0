"""From a committed effect over outbox, relay and Kafka to a consumer's committed effect, while its group changes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from uuid import UUID

import pytest

from kgl_contracts.ingest import DocumentDeleted
from kgl_contracts.topics import DOCUMENTS
from kgl_servicekit.bus.kafka import KafkaBus
from kgl_servicekit.bus.kafka_group import KafkaConsumer
from kgl_servicekit.bus.port import OnAssigned
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.relay import Relay
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import count, count_and_tell
from kgl_servicekit.testing.kafka import MockCluster, MockKafkaBus
from kgl_servicekit.testing.kafka_server import KafkaServerBus, server_connection
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.servers import real_servers

WORKSPACE = uuid7()
KEYS = 20
EVENTS_OF_A_KEY = 25


class Watched(KafkaBus):
    """Lets the test see how the group divides its partitions."""

    members: list[KafkaConsumer]

    def consumer(self, topic: str, group: str, on_assigned: OnAssigned) -> KafkaConsumer:
        made = super().consumer(topic, group, on_assigned)
        self.members.append(made)
        return made

    async def divided(self) -> bool:
        return sorted(len(member.assignment()) for member in self.members)[-2:] == [4, 4]


class WatchedMock(Watched, MockKafkaBus):
    pass


class WatchedServer(Watched, KafkaServerBus):
    pass


class Member:
    """One process of a subscription; raises at an event that came twice or out of order, so that it is held."""

    def __init__(self, database: Database, bus: Watched) -> None:
        self.handled = 0
        subscription = Subscription("counter.kafka", topic=DOCUMENTS, batch=20)
        subscription.on(DocumentDeleted)(self.handle)
        self.run = SubscriptionRunner(database, bus, subscription).run

    async def handle(self, tx: Transaction, event: Event[DocumentDeleted]) -> Verdict:
        before = await count(tx, f"consumed {event.data.document_id}") - 1
        if event.data.version != before + 1:
            raise RuntimeError(f"version {event.data.version} came after {before}")
        self.handled += 1
        return DONE


@pytest.fixture(params=["mock", *(["server"] if real_servers().kafka else [])])
async def bus(request: pytest.FixtureRequest, kafka: MockCluster) -> AsyncIterator[Watched]:
    prefix = f"path{uuid7()}."
    bus: Watched = (
        WatchedServer(server_connection(real_servers()), prefix=prefix)
        if request.param == "server"
        else WatchedMock(kafka, prefix=prefix, session=6.0, limit=10.0)
    )
    bus.members = []
    await bus.start()
    await bus.declare([DOCUMENTS])
    yield bus
    if isinstance(bus, WatchedServer):
        await bus.forget()
    await bus.stop()


async def consumed(database: Database) -> int:
    async def total(tx: Transaction, _: None) -> int:
        value: int = await tx.fetchval("select coalesce(sum(value), 0) from counter where name like 'consumed %'")
        return value

    return await database.run(WORKSPACE, total, None)


async def held(database: Database) -> list[str]:
    async def errors(tx: Transaction, _: None) -> list[str]:
        return [str(dict(row)) for row in await tx.fetch("select * from held_event")]

    return await database.run((), errors, None)


async def all_of(answer: Awaitable[int], expected: int) -> bool:
    return await answer >= expected


async def test_every_event_has_one_effect_in_order_while_a_member_comes_and_goes(
    database: Database, bus: Watched
) -> None:
    staying, leaving = Member(database, bus), Member(database, bus)
    documents: list[UUID] = [uuid7() for _ in range(KEYS)]

    async def emit(rounds: int) -> None:
        for _ in range(rounds):
            await asyncio.gather(*(database.run(WORKSPACE, count_and_tell, document) for document in documents))

    relay, first = (asyncio.ensure_future(loop()) for loop in (Relay(database, bus, worker="w").run, staying.run))
    await emit(5)
    second = asyncio.ensure_future(leaving.run())
    await eventually(bus.divided, within=40)
    emitting = asyncio.ensure_future(emit(EVENTS_OF_A_KEY - 5))
    await eventually(lambda: all_of(consumed(database), KEYS * 8), within=20)
    second.cancel()
    await emitting
    await eventually(lambda: all_of(consumed(database), KEYS * EVENTS_OF_A_KEY), within=30)
    for task in (relay, first, second):
        task.cancel()
    await asyncio.gather(relay, first, second, return_exceptions=True)
    assert await held(database) == []
    assert await consumed(database) == KEYS * EVENTS_OF_A_KEY
    assert staying.handled
    assert leaving.handled
