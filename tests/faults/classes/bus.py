"""F5 and F6: the bus restarts, is killed, and forgets."""

import asyncio

from tests.faults.stage import EventsFault, EventsStage, fault_class


@fault_class
class BusRestarted(EventsFault):
    """Its clients reconnect by themselves; nothing is sent twice with an effect, nothing is skipped."""

    name = "F5"
    title = "bus restarted in good order"

    async def during(self, stage: EventsStage) -> None:
        async for _ in stage.rounds(every=3.5):
            await stage.system.bus_server.restart(clean=True)
            await stage.healed()


@fault_class
class BusKilledAndEmptied(EventsFault):
    """Killed, it has what it acknowledged; emptied, it has nothing, and `kgl refill` gives all back."""

    name = "F6"
    title = "bus killed; then emptied, and refilled"

    async def before(self, stage: EventsStage) -> None:
        if not stage.times.long:
            stage.slowed = 0.5  # what came before the loss was noticed waits behind a gap, and is taken one by one

    async def during(self, stage: EventsStage) -> None:
        async for _ in stage.rounds(every=4.0):
            await stage.system.bus_server.restart(clean=False)
            await stage.healed()
        stage.history.add("fault", "emptied")
        await stage.system.forget_bus()
        await asyncio.sleep(1.0)
        await stage.system.refill()
        await stage.healed()
