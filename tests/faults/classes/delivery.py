"""F16 and F17: the bus delivers again, late, and in another order."""

import asyncio
import time
from collections.abc import Mapping
from typing import ClassVar
from uuid import uuid4

from kgl_servicekit.bus.port import Bus, Record
from tests.faults.contract import ITEMS, TAKEN
from tests.faults.events_load import Mix
from tests.faults.stage import EventsFault, EventsStage, fault_class

_MOST_TIMES = 4
_REWIND = "update consumer_position set next = 0 where topic = any($1::text[])"


@fault_class
class DeliveredAgain(EventsFault):
    """However often an event comes, and however late, it has one effect."""

    name = "F16"
    title = "every event 1 to 5 times; all read again from the beginning"

    async def during(self, stage: EventsStage) -> None:
        stage.history.add("fault", "again")
        bus = await stage.system.bus()
        until = time.monotonic() + stage.times.faults / 2
        repeated = 0
        while time.monotonic() < until:
            repeated += await _repeat(bus, stage)
        stage.figures["repeated"] = repeated
        stage.history.add("fault", "rewound")
        await stage.sql(_REWIND, [ITEMS.name, TAKEN.name])
        await stage.healed()
        await asyncio.sleep(stage.times.faults / 3)

    async def settled(self, stage: EventsStage) -> None:
        """I10: read again when nothing else happens, all of it changes nothing."""
        before = await stage.sql(_SUM)
        for worker in stage.system.workers:
            await worker.stop()
        await stage.sql(_REWIND, [ITEMS.name, TAKEN.name])
        for worker in stage.system.workers:
            await worker.start()
        bus = await stage.system.bus()
        until = time.monotonic() + 60
        while await _behind(stage, bus):
            if time.monotonic() > until:
                stage.findings.complain("I10", "a second reading of the topics does not come to an end")
                return
            await asyncio.sleep(0.1)
        if await stage.sql(_SUM) != before:
            stage.findings.complain("I10", "a second reading of the topics has changed what is there")


_SUM = """
select (select md5(string_agg(e::text, ',' order by e.id)) from effect e) as effects,
       (select md5(string_agg(k::text, ',' order by k.subscription, k.topic, k.key)) from key_position k
        where topic like 'kgl.faults%') as keys
"""


@fault_class
class DeliveredLate(EventsFault):
    """A tenth of the events comes up to 0.3 s late; a gap is waited for, and nothing passes it.

    What waits behind a gap is worked off one by one, so the items are equally frequent, and the load is less.
    """

    name = "F17"
    title = "10 % of the events late, and out of order"
    settings: ClassVar[dict[str, str]] = {"KGL_SHUFFLE": "0.1"}
    mix = Mix(zipf=0.0, calls=0.02)

    async def before(self, stage: EventsStage) -> None:
        stage.slowed = 0.5 if stage.times.long else 0.25

    async def during(self, stage: EventsStage) -> None:
        async for _ in stage.rounds(every=2.0):
            await stage.healed()


async def _repeat(bus: Bus, stage: EventsStage) -> int:
    """Send some of what the bus holds once more, up to four times each, in its order."""
    repeated = 0
    for topic in (ITEMS.name, TAKEN.name):

        async def from_somewhere(partitions: frozenset[int], topic: str = topic) -> Mapping[int, int]:
            ends = await bus.end_offsets(topic)
            return {partition: stage.dice.randrange(ends[partition] + 1) for partition in sorted(partitions)}

        group = f"faults-{uuid4()}"
        consumer, producer = bus.consumer(topic, group, from_somewhere), bus.producer()
        await consumer.start()
        await producer.start()
        try:
            for batch in await consumer.poll(100, 1.0):
                for _ in range(stage.dice.randint(1, _MOST_TIMES)):
                    await producer.send(
                        [Record(topic=r.topic, key=r.key, headers=r.headers, value=r.value) for r in batch.records]
                    )
                    repeated += len(batch.records)
        finally:
            await consumer.stop()
            await producer.stop()
            await bus.forget_group(topic, group)
    await asyncio.sleep(0.2)
    return repeated


async def _behind(stage: EventsStage, bus: Bus) -> bool:
    """Whether a subscription has not read to the end."""
    for topic in (ITEMS.name, TAKEN.name):
        ends = await bus.end_offsets(topic)
        rows = await stage.sql(
            "select partition, next from consumer_position where topic = $1 and incarnation = $2",
            topic,
            await bus.incarnation(topic),
        )
        if any(row["next"] < ends[row["partition"]] for row in rows):
            return True
    return False
