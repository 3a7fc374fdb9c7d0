"""F20: members of the consumer groups come and go."""

from tests.faults.stage import EventsFault, EventsStage, fault_class
from tests.faults.system import Process


@fault_class
class Rebalances(EventsFault):
    """Partitions change hands all the time, in good order and not."""

    name = "F20"
    title = "a worker joins or leaves all the time"

    async def during(self, stage: EventsStage) -> None:
        joined: list[Process] = []
        async for number in stage.rounds(every=3.0 if stage.times.long else 1.5, at_least=4):
            if number % 2 == 0:
                worker = await stage.system.extra_worker()
                await worker.start()
                joined.append(worker)
            elif number % 4 == 1:
                await joined.pop().stop()
            else:
                await joined.pop().kill()
            await stage.healed()
        for worker in joined:
            await worker.stop()
