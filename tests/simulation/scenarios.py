"""What is drawn before a schedule begins: who lives, what is asked, which faults there are, and how likely."""

import zlib
from collections.abc import Callable
from functools import partial
from random import Random
from uuid import UUID

from tests.simulation.determinism import SHARDS
from tests.simulation.races import forget, is_made, make_race
from tests.simulation.scheduler import Chances
from tests.simulation.service import Command, Operator, RelayRole, Service, WorkerRole, Writer
from tests.simulation.world import World


def _keys() -> list[UUID]:
    """Documents of two shards, which two relays divide; some of them are of one partition."""
    found = [UUID(int=(0x0199 << 112) | (7 << 76) | (2 << 62) | number) for number in range(400)]
    return [key for key in found if zlib.crc32(str(key).encode()) % SHARDS in (1, 2)][:4]


KEYS = _keys()


def draw(world: World) -> Service:
    """Set the stage, and start the processes."""
    random = world.random
    world.prepare(range(SHARDS))
    chain = random.random() < 0.3
    service = Service(
        world,
        attempts=random.choice((1, 2, 3)),
        batch=random.choice((1, 3, 10)),
        batched=random.random() < 0.3,
        chain=chain,
        shared=random.random() < 0.15,
    )
    keys = random.sample(KEYS, random.choice((1, 1, 2, 3)))
    commands = _commands(random, keys)
    payloads = [payload for command in commands for _, payload in command.events]
    _behave(random, service, payloads)
    for number, share in enumerate(_dealt(random, commands)):
        world.start(f"writer{number}", Writer(share))
    lease, batch = random.choice((0.4, 2.0, 6.0, 6.0)), random.choice((1, 3, 10))
    for number in range(random.choice((1, 1, 2))):
        world.start(f"relay{number}", RelayRole(f"relay{number}", batch, lease))
    for number in range(random.choice((1, 1, 2))):
        world.start(f"worker{number}", WorkerRole(service))
    world.start("operator", Operator(service))
    if is_made(world.seed):
        make_race(world, service, payloads)
    else:
        _fault(random, world)
    return service


def _commands(random: Random, keys: list[UUID]) -> list[Command]:
    commands, payload = [], 0
    for _ in range(random.randrange(2, 6)):
        events = []
        for _ in range(random.choice((1, 1, 2, 3))):
            payload += 1
            events.append((random.choice(keys), payload))
        commands.append(Command(tuple(events)))
    return commands


def _dealt(random: Random, commands: list[Command]) -> list[list[Command]]:
    shares: list[list[Command]] = [[] for _ in range(random.choice((1, 2, 3)))]
    for command in commands:
        random.choice(shares).append(command)
    return [share for share in shares if share]


def _behave(random: Random, service: Service, payloads: list[int]) -> None:
    """Most schedules have an event or two that do not go smoothly."""
    behaviour = service.behaviour
    for payload in payloads:
        if random.random() > 0.25:
            continue
        kind = random.choice(("raises", "outage", "both", "reject", "poison", "fixable", "discard"))
        if kind == "raises":
            behaviour.raises[payload] = random.randrange(1, 4)
        elif kind == "both":
            behaviour.raises[payload] = behaviour.outages[payload] = 1
        elif kind == "outage":
            behaviour.outages[payload] = random.randrange(1, 3)
        elif kind == "reject":
            behaviour.rejects.add(payload)
        elif kind == "poison":
            behaviour.poisons.add(payload)
        else:
            behaviour.fixable.add(payload)
            if kind == "discard":
                behaviour.discards.add(payload)


def _fault(random: Random, world: World) -> None:
    """Each schedule has some of the faults: all at once hide each other."""
    chances = Chances()
    if random.random() < 0.4:
        chances.lost = random.choice((0.01, 0.04))
    if random.random() < 0.4:
        chances.late = random.choice((0.05, 0.2))
    if random.random() < 0.5:
        chances.hold = random.choice((0.03, 0.15))
    if random.random() < 0.3:
        chances.jump = random.choice((0.005, 0.03))
    if random.random() < 0.4:
        chances.kill = random.choice((0.005, 0.02))
    if random.random() < 0.25:
        chances.freeze = random.choice((0.003, 0.01))
    if random.random() < 0.5:
        chances.other = random.choice((0.005, 0.02))
        world.scheduler.faults = random.sample(_others(world), 2)
    world.scheduler.chances = chances
    world.wires.lossy = random.random() < 0.3
    world.broker.lost_acks = random.choice((0.0, 0.0, 0.1, 0.3))
    if random.random() < 0.5:
        names = [*world.roles]
        world.scheduler.weights = {name: random.choice((0.05, 0.3, 1.0, 1.0, 3.0)) for name in names}


def _others(world: World) -> list[Callable[[], None]]:
    random, note = world.random, world.scheduler.note

    def rebalance() -> None:
        for group in world.broker.groups.values():
            note("broker", "divides the partitions anew")
            group.divide()

    def bus_out() -> None:
        note("broker", "OUT")
        world.broker.memory.out = True
        world.loop.call_later(random.choice((0.2, 2.0)), bus_back)

    def bus_back() -> None:
        note("broker", "is back")
        world.broker.memory.out = False

    def database_dies() -> None:
        note("server", "DIED; all sessions are gone")
        for session in list(world.server.sessions):
            session.close()

    return [rebalance, bus_out, database_dies, partial(forget, world)]


def heal(world: World) -> None:
    """No faults any more: what is left has to settle now."""
    world.quiet = world.scheduler.calm = True
    world.scheduler.chances = Chances()
    world.scheduler.faults = []
    world.scheduler.weights = {}
    world.broker.lost_acks = 0.0
    world.broker.memory.out = False
    world.wires.lossy = False
    world.scheduler.thaw_all()
    for question in world.scheduler.waiting:
        question.held = 0
        question.weight = 1.0
