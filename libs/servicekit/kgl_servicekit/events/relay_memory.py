"""What the bus has acknowledged, remembered in the database: so it shows when the bus has lost it.

A broker that lost its disk comes back empty and takes new events as if nothing had been. The relay compares
before it sends: the topic's life, and that no partition ends before the last acknowledged offset.
"""

from collections.abc import Collection, Sequence

from kgl_contracts.topics import BY_NAME
from kgl_servicekit.bus.port import Ack, Bus, TopicMissing
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction

_REMEMBER = """
insert into relay_position as p (topic, partition, incarnation, "offset")
select * from unnest($1::text[], $2::int[], $3::text[], $4::bigint[])
on conflict (topic, partition) do update set "offset" = greatest(p."offset", excluded."offset")
where p.incarnation = excluded.incarnation returning p.topic, p.partition
"""

_REMEMBERED = 'select topic, partition, incarnation, "offset" from relay_position order by topic, partition'


class BrokerLostData(Exception):
    """The bus no longer has what it acknowledged; refill its topics from the outbox."""

    def __init__(self, topics: Sequence[str]) -> None:
        super().__init__(f"the bus has lost events of {', '.join(topics)}: refill these topics from the outbox")
        self.topics = tuple(topics)


class Memory:
    """The acknowledgements of one service's relays."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._incarnations: dict[str, str] = {}

    async def check(self) -> None:
        """Raise BrokerLostData where the bus has another topic of that name, or less of it than it had."""
        remembered = await self._database.run((), _remembered, None)
        lost = []
        self._incarnations.clear()
        for topic, partitions in remembered.items():
            try:
                incarnation = await self._incarnation(topic)
                ends = await self._bus.end_offsets(topic)
            except TopicMissing:
                if topic in BY_NAME:  # else it was retired, and nothing is sent to it any more
                    lost.append(topic)
                continue
            if any(
                known != incarnation or ends.get(partition, 0) <= offset
                for partition, (known, offset) in partitions.items()
            ):
                lost.append(topic)
        if lost:
            raise BrokerLostData(lost)

    async def check_lives(self) -> None:
        """Raise BrokerLostData where a topic that was sent to has been made anew under an open producer.

        No send fails then: a broker takes them for the new topic as if nothing had been.
        """
        lost = []
        for topic, known in self._incarnations.items():
            try:
                if await self._bus.incarnation(topic) != known:
                    lost.append(topic)
            except TopicMissing:
                lost.append(topic)
        if lost:
            raise BrokerLostData(lost)

    async def learn(self, topics: Collection[str]) -> None:
        """Know the life of each topic before anything is sent to it: asked afterwards, it may be the next one.

        Raises BrokerLostData where another relay has sent to an earlier life of one that is new to this relay.
        """
        if any(topic not in self._incarnations for topic in topics):
            await self.check()
            for topic in topics:
                await self._incarnation(topic)

    async def remember(self, tx: Transaction, acks: Sequence[Ack]) -> None:
        """Note the furthest acknowledged offset of each partition.

        Raises BrokerLostData where that of another life of the topic is noted: one of both is no more.
        """
        furthest: dict[tuple[str, int], int] = {}
        for ack in acks:
            place = (ack.topic, ack.partition)
            if ack.offset > furthest.get(place, -1):
                furthest[place] = ack.offset
        places = sorted(furthest)
        noted = await tx.fetch(
            _REMEMBER,
            [topic for topic, _ in places],
            [partition for _, partition in places],
            [await self._incarnation(topic) for topic, _ in places],
            [furthest[place] for place in places],
        )
        if lost := {topic for topic, _ in furthest.keys() - {(row["topic"], row["partition"]) for row in noted}}:
            raise BrokerLostData(sorted(lost))

    async def _incarnation(self, topic: str) -> str:
        if topic not in self._incarnations:
            self._incarnations[topic] = await self._bus.incarnation(topic)
        return self._incarnations[topic]


async def _remembered(tx: Transaction, _: None) -> dict[str, dict[int, tuple[str, int]]]:
    found: dict[str, dict[int, tuple[str, int]]] = {}
    for row in await tx.fetch(_REMEMBERED):
        found.setdefault(row["topic"], {})[row["partition"]] = (row["incarnation"], row["offset"])
    return found
