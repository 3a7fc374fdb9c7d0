"""A real broker that is restarted, killed, or comes back without its disk, under a relay and a consumer.

They work with the logins of ingest and graph, on one database, and are never started again themselves.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar
from uuid import UUID

import pytest

from kgl_cli.setup.kafka import KafkaSetupSettings, administrated, setup, wanted_by_services
from kgl_cli.testing import prepared_kafka
from kgl_contracts.ingest import DocumentDeleted
from kgl_contracts.topics import DOCUMENTS
from kgl_servicekit.bus.kafka import KafkaBus
from kgl_servicekit.bus.port import PositionLost
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.consumer import SubscriptionRunner
from kgl_servicekit.events.refill import refill
from kgl_servicekit.events.relay import Relay
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import MIGRATIONS, count, count_and_tell
from kgl_servicekit.testing.kafka_broker import KafkaBroker
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests

pytestmark = pytest.mark.timeout(300)
WORKSPACE = uuid7()
KEYS = 10
BACK_WITHIN = 90.0


@pytest.fixture(scope="module")
def prepared() -> Iterator[tuple[KafkaBroker, KafkaSetupSettings]]:
    with prepared_kafka() as prepared:
        yield prepared


class Path:
    """One path of events: emitted into the outbox, relayed, consumed with an effect in the same database."""

    def __init__(self, database: Database, sending: KafkaBus, reading: KafkaBus) -> None:
        self.database = database
        self.sending = sending
        self.reading = reading
        self.relay = Relay(database, sending, worker="stack")
        subscription = Subscription(f"graph.stack{uuid7()}", topic=DOCUMENTS, batch=20, attempts=1)
        subscription.on(DocumentDeleted)(self._handle)
        self.loops = [self.relay.run, SubscriptionRunner(database, reading, subscription).run]
        self._documents = [uuid7() for _ in range(KEYS)]
        self._mine = set(self._documents)
        self.emitted = 0

    async def _handle(self, tx: Transaction, event: Event[DocumentDeleted]) -> Verdict:
        """Raises at an event that came twice or out of order, so that it is held."""
        if event.data.document_id not in self._mine:
            return DONE  # of an earlier test on this broker
        before = await count(tx, f"consumed {event.data.document_id}") - 1
        if event.data.version != before + 1:
            raise RuntimeError(f"version {event.data.version} came after {before}")
        return DONE

    async def emit(self, rounds: int) -> None:
        """So many events of each key."""
        for _ in range(rounds):
            await asyncio.gather(*(self.database.run(WORKSPACE, count_and_tell, key) for key in self._documents))
            self.emitted += KEYS

    async def all_consumed(self) -> bool:
        """Each once and in order; whatever is held was not."""
        held = await self._ask("select coalesce(string_agg(error, '; '), '') from held_event", ())
        assert held == ""
        consumed = await self._ask(
            "select coalesce(sum(value), 0)::int from counter where name like 'consumed %'", WORKSPACE
        )
        assert isinstance(consumed, int)
        assert consumed <= self.emitted
        return consumed == self.emitted

    async def _ask(self, statement: str, workspaces: UUID | tuple[()]) -> object:
        async def asked(tx: Transaction, _: None) -> object:
            value: object = await tx.fetchval(statement)
            return value

        return await self.database.run(workspaces, asked, None)

    async def wait(self) -> None:
        await eventually(self.all_consumed, within=BACK_WITHIN, every=0.1, what="not all was consumed")

    async def lost(self) -> bool:
        return self.relay.lost is not None


@pytest.fixture
async def path(prepared: tuple[KafkaBroker, KafkaSetupSettings], postgres: PostgresForTests) -> AsyncIterator[Path]:
    broker, _ = prepared
    async with (
        postgres.database(MIGRATIONS) as roles,
        _open(Database(roles.service, service="counter")) as database,
        _open(KafkaBus(broker.user("ingest", "ingest-secret"))) as sending,
        _open(KafkaBus(broker.user("graph", "graph-secret"))) as reading,
    ):
        path = Path(database, sending, reading)
        tasks = [asyncio.create_task(loop()) for loop in path.loops]
        yield path
        assert not [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Opened(Protocol):
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


T = TypeVar("T", bound=_Opened)


@asynccontextmanager
async def _open(thing: T) -> AsyncIterator[T]:
    await thing.start()
    yield thing
    await thing.stop()


@pytest.mark.parametrize("how", [KafkaBroker.restart, KafkaBroker.kill])
async def test_a_broker_that_goes_and_comes_back_loses_nothing_and_mixes_nothing_up(
    path: Path, prepared: tuple[KafkaBroker, KafkaSetupSettings], how: Callable[[KafkaBroker], None]
) -> None:
    broker, _ = prepared
    await path.emit(3)
    await path.wait()
    going = asyncio.create_task(asyncio.to_thread(how, broker))
    while not going.done():
        await path.emit(1)
        await asyncio.wait({going}, timeout=0.5)  # some at every moment of it
    await going
    await path.emit(3)
    await path.wait()
    assert path.relay.lost is None


async def test_a_topic_that_was_deleted_and_made_again_begins_a_new_life_and_is_refilled(
    path: Path, prepared: tuple[KafkaBroker, KafkaSetupSettings]
) -> None:
    _, settings = prepared
    await path.emit(3)
    await path.wait()
    before = await path.reading.incarnation(DOCUMENTS.name)
    async with administrated(settings) as cluster:
        await cluster._each(lambda client: client.delete_topics([DOCUMENTS.name]))
    await setup(settings, print)
    assert await path.reading.incarnation(DOCUMENTS.name) != before
    await path.emit(3)  # what the relay does not send to a topic of another life
    await eventually(path.lost, within=BACK_WITHIN)
    await path.database.run((), refill, [DOCUMENTS.name])
    await path.wait()


async def test_a_member_reads_on_in_no_other_life_of_its_topic(
    path: Path, prepared: tuple[KafkaBroker, KafkaSetupSettings]
) -> None:
    _, settings = prepared

    async def from_end(_: frozenset[int]) -> dict[int, int]:
        return await path.reading.end_offsets(DOCUMENTS.name)

    member = path.reading.consumer(DOCUMENTS.name, f"graph.life{uuid7()}", from_end)
    await member.start()
    for partition in member.assignment():
        member.pause(partition)  # nothing is asked of the broker, so nothing fails
    documents = next(topic for topic in wanted_by_services(settings).topics if topic.name == DOCUMENTS.name)
    async with administrated(settings) as cluster:
        await cluster._each(lambda client: client.delete_topics([DOCUMENTS.name]))
        await cluster.make([documents])
        await cluster.wait_for([DOCUMENTS.name])

    async def noticed() -> bool:
        try:
            await member.poll(1, 0.1)
        except PositionLost:
            return True
        return False

    await eventually(noticed, within=30)
    await member.stop()


async def test_a_broker_that_comes_back_without_its_disk_is_filled_from_the_outbox_with_no_double_effect(
    path: Path, prepared: tuple[KafkaBroker, KafkaSetupSettings]
) -> None:
    broker, settings = prepared
    await path.emit(5)
    await path.wait()
    await asyncio.to_thread(broker.empty)
    await path.emit(2)
    await setup(settings, print)
    await eventually(path.lost, within=BACK_WITHIN)
    refilled = await path.database.run((), refill, [DOCUMENTS.name])
    # all that the old disk had, and what went to the new one before it was noticed; the rest waits anyway
    assert 5 * KEYS <= refilled <= 7 * KEYS
    await path.emit(2)
    await path.wait()
    ends = await path.sending.end_offsets(DOCUMENTS.name)
    assert sum(ends.values()) >= path.emitted
