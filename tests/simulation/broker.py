"""The broker of a schedule: its logs, and who of a group reads what."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kgl_contracts.topics import Topic
from kgl_servicekit.bus.memory import MemoryBus, _Log
from tests.simulation.loop import Life
from tests.simulation.scheduler import Scheduler

if TYPE_CHECKING:
    from tests.simulation.simulated_bus import SimulatedConsumer


class Broker:
    """The logs, and who reads what. `out` makes every question fail."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.memory = MemoryBus()
        self.groups: dict[tuple[str, str], Group] = {}
        self.lost_acks = 0.0
        self.lives = 0
        self.felt: set[Life | None] = set()
        """Those to whom a question has failed since the bus went out."""
        self.committed: Callable[[str, str, int, int], None] = lambda topic, group, partition, offset: None

    @property
    def logs(self) -> dict[str, _Log]:
        return self.memory._logs

    def declare(self, topics: Sequence[Topic]) -> None:
        for topic in topics:
            if topic.name not in self.logs:
                self.begin_life(topic.name, topic.partitions)

    def begin_life(self, topic: str, partitions: int) -> None:
        """An empty topic of that name, whatever there was before."""
        self.lives += 1
        self.logs[topic] = _Log([[] for _ in range(partitions)], incarnation=f"life {self.lives}")

    def cut(self, topic: str, partition: int, length: int) -> None:
        """The end of a log is gone, and nothing says so."""
        del self.logs[topic].partitions[partition][length:]

    def grown(self, topic: str) -> None:
        for (name, _), group in self.groups.items():
            if name == topic:
                for member in group.members:
                    member.grown.set()

    def group(self, topic: str, name: str) -> "Group":
        if (topic, name) not in self.groups:
            self.groups[topic, name] = Group(self, topic)
        return self.groups[topic, name]

    def bury(self, life: Life) -> None:
        """The members of a dead process are missed after a while."""
        for group in self.groups.values():
            for member in [member for member in group.members if member.life is life]:
                group.leave(member)


class Group:
    """Who reads which partitions; each division of them is a round."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._broker = broker
        self._topic = topic
        self.members: list[SimulatedConsumer] = []
        self.round = 0
        self.shares: dict[SimulatedConsumer, frozenset[int]] = {}

    def join(self, member: "SimulatedConsumer") -> None:
        self.members.append(member)
        self.divide()

    def leave(self, member: "SimulatedConsumer") -> None:
        if member in self.members:
            self.members.remove(member)
            self.divide()

    def divide(self) -> None:
        """Deal the partitions out anew. Nobody is asked whether he is done with his."""
        self.round += 1
        partitions = list(range(len(self._broker.logs[self._topic].partitions)))
        self._broker.scheduler.random.shuffle(partitions)
        count = len(self.members)
        self.shares = {m: frozenset(partitions[place::count]) for place, m in enumerate(self.members)}
        for member in self.members:
            member.grown.set()
