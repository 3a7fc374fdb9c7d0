"""F23: many at once on one key. (F22 is in overload.py.)"""

import asyncio

from tests.faults.events_load import Mix
from tests.faults.stage import EventsFault, Stage, fault_class


@fault_class
class ManyWritersOfOneKey(EventsFault):
    """Up to 64 commands at once write the same item, and twins of one key are among them."""

    name = "F23"
    title = "50 writers on one key"
    mix = Mix(items=1, events=2, twins=0.2, replays=0.1, calls=0.02)

    async def during(self, stage: Stage) -> None:
        async for _ in stage.rounds(every=1.0):
            await asyncio.sleep(0)
