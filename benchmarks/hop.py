"""The durable hop: poll, duplicates, effect, sequence, outbox, relay, next topic.

Ours is the runtime as services use it (decoding, holds, receipts, metrics, traces on). The limit is a loop
written by hand for this one purpose, with the same transactions and durability, on the same bus.
"""

import statistics

from benchmarks.harness import Result, at_least, at_most, in_turn
from benchmarks.hop_system import Hop, HopSystem, hop_systems
from benchmarks.plain import plain_rate

EVENTS = 20_000
KEYS = 2_000
PLAIN_EVENTS = 1_000


async def measure() -> list[Result]:
    """Events per second, with 1 and with 1,000 workspaces, and what the runtime costs for each event."""
    results: list[Result] = []
    async with hop_systems() as systems:
        for system in systems:
            for workspaces in (1, 1_000):
                results += await hop_results(system, workspaces)
            results.append(await against_plain(system))
    return results


async def hop_results(system: HopSystem, workspaces: int) -> list[Result]:
    spent: dict[Hop, list[float]] = {system.ours: [], system.raw: []}

    async def rate(hop: Hop) -> float:
        hopped = await hop(EVENTS, KEYS, workspaces)
        spent[hop].append(hopped.cpu)
        return hopped.rate

    pair = await in_turn(lambda: rate(system.ours), lambda: rate(system.raw))
    where = f"{system.transport}, {workspaces:,} workspace{'s' if workspaces > 1 else ''}"
    ours, raw = statistics.median(spent[system.ours]), statistics.median(spent[system.raw])
    return [
        at_least(f"durable hop, {where}", "events/s", pair, 0.8),
        at_most(f"tax of the runtime, {where}", "µs CPU/event", ours - raw, 15),
    ]


async def against_plain(system: HopSystem) -> Result:
    """Ours, and one message, one session, one publish at a time."""

    async def ours() -> float:
        return (await system.ours(EVENTS, KEYS, 1)).rate

    pair = await in_turn(ours, lambda: plain_rate(system.postgres, PLAIN_EVENTS))
    name = f"durable hop, {system.transport}, against FastStream and SQLModel one by one"
    return at_least(name, "events/s", pair, 10)
