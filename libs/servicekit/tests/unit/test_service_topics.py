"""What a service looks for on the bus at its start, and how it ends or waits when that is not there."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kgl_contracts.topics import AUDIT, DECISIONS, GRAPH, IDENTITY, OPERATIONS, Topic
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.bus.port import BusRefused, TopicMissing
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.events.subscription import Subscription
from kgl_servicekit.service import Service
from kgl_servicekit.settings import NotConfigured


class FailingBus(MemoryBus):
    """Fails as it is told, one time after the other, and then has everything."""

    def __init__(self, *failures: Exception) -> None:
        super().__init__()
        self.failures = list(failures)
        self.asked: list[set[str]] = []

    async def declare(self, topics: Sequence[Topic]) -> None:
        self.asked.append({topic.name for topic in topics})
        if self.failures:
            raise self.failures.pop(0)
        await super().declare(topics)


def service(bus: MemoryBus) -> Service:
    nothing: Any = SimpleNamespace()
    return Service(
        name="counter",
        settings=nothing,
        database=nothing,
        bus=bus,
        migrations=Path(),
        subscriptions=[Subscription("counter.graph", topic=GRAPH)],
    )


async def test_it_looks_for_what_it_writes_and_reads_alone() -> None:
    made = service(bus := FailingBus())
    await made._declare(made._topics)
    assert bus.asked == [{GRAPH.name, IDENTITY.name, OPERATIONS.name, AUDIT.name, DECISIONS.name}]


async def test_a_bus_that_is_out_of_reach_is_waited_for() -> None:
    made = service(bus := FailingBus(Unavailable("away"), Unavailable("away")))
    async with asyncio.timeout(10):
        await made._declare(made._topics)
    assert len(bus.asked) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        TopicMissing("no topic kgl.graph; do this", topic="kgl.graph"),
        BusRefused("KGL_KAFKA_USER is refused; do this"),
        ValueError("kgl.graph has 2 partitions; do this"),
    ],
)
async def test_what_an_operator_has_to_mend_ends_the_start_with_its_line(wrong: Exception) -> None:
    made = service(FailingBus(wrong))
    with pytest.raises(NotConfigured, match="do this"):
        await made._declare(made._topics)
