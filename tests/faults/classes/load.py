"""F21 to F23: a server outside that fails, more load than can be carried, many at once on one key."""

import asyncio
from typing import ClassVar

from tests.faults.events_load import Mix
from tests.faults.stage import EventsFault, EventsStage, fault_class

MOST_AMPLIFIED = 1.2
MOST_FREE = 20
"""Calls that are made before anybody can know, and while it is looked whether the server is back."""


@fault_class
class DownstreamFails(EventsFault):
    """It answers 500 to all; work that does not need it goes on, and it is not asked again for each job."""

    name = "F21"
    title = "server outside answers 500 to all"
    mix = Mix(calls=0.1)

    async def during(self, stage: EventsStage) -> None:
        stage.history.add("fault", "500")
        downstream = stage.system.downstream
        downstream.mode = "500"
        await asyncio.sleep(stage.times.faults)
        downstream.mode = "ok"
        await stage.healed()

    async def settled(self, stage: EventsStage) -> None:
        """I6: how often it was asked for each job."""
        calls = stage.system.downstream.calls
        amplified = calls.total() / max(1, len(calls))
        stage.figures |= {"calls": len(calls), "amplification": round(amplified, 3)}
        if calls.total() > MOST_AMPLIFIED * len(calls) + MOST_FREE:
            stage.findings.complain("I6", f"{calls.total()} calls for {len(calls)} jobs")


@fault_class
class Overload(EventsFault):
    """Three times what is allowed: refused fast, and nothing is lost of what was accepted."""

    name = "F22"
    title = "three times the load that is allowed"
    settings: ClassVar[dict[str, str]] = {"KGL_RATE_LIMIT_PER_MINUTE": "300"}

    async def before(self, stage: EventsStage) -> None:
        stage.load.patience = 3.0

    async def during(self, stage: EventsStage) -> None:
        stage.history.add("fault", "overload")
        usual, stage.load.rate = stage.load.rate, stage.load.rate * 3
        stage.load.most_at_once *= 3
        await asyncio.sleep(stage.times.faults)
        stage.load.rate = usual
        await stage.healed()

    async def settled(self, stage: EventsStage) -> None:
        attempts = [line.data for line in stage.history.lines if line.what == "attempt"]
        refused = sorted(each["seconds"] for each in attempts if each.get("status") in (429, 503))
        stage.figures["refused"] = len(refused)
        if refused:
            stage.figures["refused_p99_ms"] = round(refused[len(refused) * 99 // 100] * 1000, 1)


@fault_class
class ManyWritersOfOneKey(EventsFault):
    """Up to 64 commands at once write the same item, and twins of one key are among them."""

    name = "F23"
    title = "50 writers on one key"
    mix = Mix(items=1, events=2, twins=0.2, replays=0.1, calls=0.02)

    async def during(self, stage: EventsStage) -> None:
        async for _ in stage.rounds(every=1.0):
            await asyncio.sleep(0)
