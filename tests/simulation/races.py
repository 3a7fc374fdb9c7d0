"""Races that chance alone rarely meets: some schedules are made for one of them.

Everything else of such a schedule is drawn like that of any other; only what goes wrong, and who is slow, is set.
"""

from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Any

from kgl_contracts.topics import ALL, DOCUMENTS
from tests.simulation.connection import SimulatedConnection
from tests.simulation.loop import Life
from tests.simulation.scheduler import LOST_AFTER, Chances
from tests.simulation.service import RelayRole, Service
from tests.simulation.world import PARTITIONS, World

MOST_FORGOTTEN = 4
_EVERY = 8
_COUNT = "update held_event set attempts = attempts + 1"


def is_made(seed: int) -> bool:
    """Whether the schedule of a seed is made for a race."""
    return seed % _EVERY == 5


def make_race(world: World, service: Service, payloads: list[int]) -> None:
    """Set the stage for one of them."""
    random = world.random
    race = random.choice((_unread, _noted_late, _restarted, _reading, _uncounted, _refilled, _restored))
    world.scheduler.note("", f"made for: {race.__name__[1:]}")
    race(world, service, payloads)


def forget(world: World) -> None:
    """The topic is made anew, empty."""
    if world.quiet or world.broker.lives > len(ALL) + MOST_FORGOTTEN:
        return
    world.scheduler.note("broker", "FORGOT all documents")
    world.history.lost_topics.add(DOCUMENTS.name)
    world.broker.begin_life(DOCUMENTS.name, PARTITIONS)
    for (topic, _), group in world.broker.groups.items():
        if topic == DOCUMENTS.name:
            group.divide()


def _when(world: World, happens: Callable[[], bool], often: int = 1) -> None:
    """Let something happen at the first moments of the faulty time at which it can."""
    left = [often]

    def look() -> None:
        if left[0] and happens():
            left[0] -= 1

    world.scheduler.chances.other = 0.5
    world.scheduler.faults = [look]


def _weigh(world: World, **weights: float) -> None:
    """Who is slow: by the beginning of the name."""
    world.scheduler.weights = {
        name: next((weight for begin, weight in weights.items() if name.startswith(begin)), 1.0) for name in world.roles
    }


def _lease(world: World, seconds: float) -> None:
    for role in world.roles.values():
        if isinstance(role, RelayRole):
            role.lease = seconds


def _unread(world: World, service: Service, payloads: list[int]) -> None:
    """The bus forgets what was not read yet, and the relay goes on before it knows: an event comes behind a gap."""
    random = world.random
    world.scheduler.chances = Chances(hold=random.choice((0.0, 0.05)))
    _weigh(world, worker=random.choice((0.05, 0.2)), writer=2.0)
    for payload in payloads:
        if random.random() < 0.3:
            service.behaviour.poisons.add(payload)
    after = random.randrange(1, 4)

    def happens() -> bool:
        if _unread_records(world) < after or not world.server.tables["outbox_pending"].living():
            return False
        forget(world)
        return True

    _when(world, happens, random.choice((1, 2)))


def _unread_records(world: World) -> int:
    log = world.broker.logs[DOCUMENTS.name]
    read: int = sum(row["next"] for row in world.rows("consumer_position") if row["incarnation"] == log.incarnation)
    return sum(map(len, log.partitions)) - read


def _noted_late(world: World, _service: Service, _payloads: list[int]) -> None:
    """The bus forgets what it has just acknowledged, before that is noted."""
    world.scheduler.chances = Chances(late=0.1)

    def happens() -> bool:
        if not any(relay._acked[0] for _, relay in _relays(world)):
            return False
        forget(world)
        return True

    _when(world, happens)


def _restarted(world: World, _service: Service, _payloads: list[int]) -> None:
    """The bus forgets while no relay lives that has sent to it; another one, which has not, may take over."""
    world.scheduler.chances = Chances()
    calm = world.random.random() < 0.5
    all_die = world.random.random() < 0.5
    _lease(world, 0.4)

    def happens() -> bool:
        tables = world.server.tables
        if not tables["relay_position"].living() or (calm and tables["outbox_pending"].living()):
            return False
        for life, relay in list(_relays(world)):
            if all_die or DOCUMENTS.name in relay._memory._incarnations:
                world.scheduler.kill(life)
        forget(world)
        return True

    _when(world, happens)


def _reading(world: World, _service: Service, _payloads: list[int]) -> None:
    """A relay dies with rows in hand, and its session still has them when the next one reads."""
    world.scheduler.chances = Chances()
    for role in world.roles.values():
        if isinstance(role, RelayRole):
            role.batch = 1

    def happens() -> bool:
        if len(world.server.tables["outbox_pending"].living()) < 2:
            return False
        for life, _ in _relays(world):
            if any(session.is_in("select p.id") for session in life.sessions):
                world.scheduler.kill(life)
                return True
        return False

    _when(world, happens)


def _uncounted(world: World, service: Service, payloads: list[int]) -> None:
    """Handlers raise, and where an attempt is counted the connection breaks with the answer on its way."""
    world.scheduler.chances = Chances()
    for payload in payloads:
        if world.random.random() < 0.5:
            service.behaviour.poisons.add(payload)

    def happens() -> bool:
        for question in world.scheduler.waiting:
            connection = getattr(question.lose, "__self__", None)
            if isinstance(connection, SimulatedConnection) and connection.session.is_in(_COUNT) and not question.begun:
                world.scheduler.lose(question, LOST_AFTER)
                return True
        return False

    _when(world, happens, 2)
    world.scheduler.chances.other = 1.0


def _refilled(world: World, _service: Service, _payloads: list[int]) -> None:
    """A relay that stood still since its acknowledgement goes on in the middle of a refill, or after it."""
    world.scheduler.chances = Chances()
    later = world.random.choice((0.0, 0.0, 0.01, 0.05))
    lease = world.random.choice((0.05, 6.0))
    _lease(world, lease)
    stopped: list[Life] = []

    def happens() -> bool:
        for life, relay in _relays(world):
            due = relay._shards.left < lease / 2 or lease > 1
            if relay._acked[0] and due and life.frozen_until is None:
                life.frozen_until = world.loop.now + 60.0
                world.scheduler.note(life.name, "FROZEN until a refill")
                stopped.append(life)
                world.unfinished = True
                forget(world)
                world.known_lost.add(DOCUMENTS.name)
                return True
        return False

    def goes_on(sql: str) -> None:
        if sql.startswith("update relay_shard set epoch = epoch + 1"):
            world.loop.call_later(later, thaw, context=Context())

    def thaw() -> None:
        world.unfinished = False
        for life in stopped:
            if not life.dead and life.frozen_until is not None:
                world.scheduler.note(life.name, "goes on")
                world.loop.thaw(life)

    world.on_statement = goes_on
    _when(world, happens)


def _restored(world: World, _service: Service, _payloads: list[int]) -> None:
    """The bus is out until all have felt it, and comes back with the end of its logs gone."""
    random, memory = world.random, world.broker.memory
    world.scheduler.chances = Chances()

    def happens() -> bool:
        if not any(world.broker.logs[DOCUMENTS.name].partitions):
            return False
        world.scheduler.note("broker", "OUT, to be restored")
        memory.out = world.unfinished = True
        world.broker.felt.clear()
        world.loop.call_later(0.2, comes_back, context=Context())
        return True

    def comes_back() -> None:
        if world.quiet:
            return
        if not all(life in world.broker.felt for life, _ in _relays(world)) or _members(world):
            world.loop.call_later(0.2, comes_back, context=Context())
            return
        world.history.lost_topics.add(DOCUMENTS.name)
        world.history.cut_topics.add(DOCUMENTS.name)
        for partition, records in enumerate(world.broker.logs[DOCUMENTS.name].partitions):
            world.broker.cut(DOCUMENTS.name, partition, random.randrange(len(records) + 1))
        world.scheduler.note("broker", "is back, with less")
        memory.out = world.unfinished = False

    _when(world, happens)


def _members(world: World) -> bool:
    return any(group.members for (topic, _), group in world.broker.groups.items() if topic == DOCUMENTS.name)


def _relays(world: World) -> Iterator[tuple[Life, Any]]:
    """The relays that live."""
    for life in world.scheduler.lives:
        if "relay" in life.memory:
            yield life, life.memory["relay"]
