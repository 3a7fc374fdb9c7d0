"""F18: events that cannot be read, or that their handler cannot stand."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

from kgl_contracts.envelope import Envelope
from kgl_servicekit.database.engine import Database
from kgl_servicekit.events.dead_letters import DeadLetter, discard, redrive
from tests.faults import events_state, measures
from tests.faults.checks import check_events
from tests.faults.contract import ITEMS, SOURCE, WORKSPACE, ItemWritten
from tests.faults.events_load import Mix
from tests.faults.service import FaultsSettings, subscriptions
from tests.faults.stage import SOON, EventsFault, EventsStage, fault_class
from tests.faults.system import RawRecord

LARGEST = 10 * 1024 * 1024


@fault_class
class Poison(EventsFault):
    """Exactly what is poison is a dead letter; others go on; once what was wrong is mended, redrive does the rest."""

    name = "F18"
    title = "1 % poison of each kind; then mended and redriven"
    mix = Mix(calls=0.02, trouble=("raises", "refuses"), trouble_share=0.01)
    mended = True

    def __init__(self) -> None:
        self._records: dict[str, RawRecord] = {}

    async def before(self, stage: EventsStage) -> None:
        if stage.system.takeover >= SOON:
            stage.slowed = 0.2  # three deaths take half a minute, and what may have caused them is taken one by one
        elif not stage.times.long:
            stage.slowed = 0.5

    async def during(self, stage: EventsStage) -> None:
        stage.history.add("fault", "poison")
        self._records = unreadable(getattr(stage.system, "largest_record", LARGEST))
        await stage.system.inject(ITEMS.name, [*self._records.values(), _unknown()])
        await asyncio.sleep(stage.times.faults / 2)
        stage.history.add("fault", "hangs, kills")
        kinds = ("hangs", "kills") * (5 if stage.times.long else 1)
        stage.load.extra += [{"item": f"poisoned-{kind}-{n}", "trouble": kind} for n, kind in enumerate(kinds)]
        await asyncio.sleep(stage.times.faults / 2)
        await stage.healed()

    def injected(self) -> frozenset[str]:
        return frozenset(self._records)

    async def settled(self, stage: EventsStage) -> None:
        """I6; I5 before anything is mended; then mend, decide, and let all have its effect."""
        poison, worse = (line.wall for line in stage.history.lines if line.what == "fault")
        stage.figures["p99_beside_poison_s"] = await measures.slowest(stage.system.dsn, poison, worse)
        state = await events_state.collect(stage.system.dsn)
        stage.findings.add(check_events(stage.history, state, injected=self.injected()))
        stage.findings.events = 0  # counted once, in the end
        stage.figures["dead_letters"] = len(state.letters)
        for letter in state.letters:
            sent = self._records.get(letter["key"])
            if sent is not None and letter["value"] != (sent.value or b""):
                stage.findings.complain("I5", f"the letter of {letter['key']} has other bytes than came")
        await stage.sql("insert into mended values ($1)", WORKSPACE)
        await self._decide(stage)
        if not await events_state.settle(stage.system.dsn, stage.times.settle):
            stage.findings.complain("I5", "what was redriven does not come to an end")
        self._records = {}

    async def _decide(self, stage: EventsStage) -> None:
        settings = FaultsSettings(database_url=stage.system.dsn, env="test")
        named = {each.name: each for each in subscriptions("faults", settings)}
        database = Database(stage.system.dsn, service=SOURCE)
        await database.start()
        try:
            for row in await stage.sql("select id, subscription, key from held_event where state = 'dead'"):
                letter = DeadLetter(named[row["subscription"]], row["id"])
                if row["key"] in self._records:
                    await database.run((), discard, (letter, "nobody can read it"))
                else:
                    await database.run((), redrive, letter)
        finally:
            await database.stop()


def unreadable(largest: int) -> dict[str, RawRecord]:
    """One of each kind that cannot be read, by its key."""
    values: dict[str, bytes | None] = {
        "bad-json": b'{"item": ',
        "wrong-schema": b'{"item": "a", "number": "not one"}',
        "null": None,
        "large": b"x" * largest,
    }
    made = {key: RawRecord(key, _headers(ItemWritten.event_type), value) for key, value in values.items()}
    bad = {**_headers(ItemWritten.event_type), "ce_id": b"\xff\xfe no text"}
    return made | {"bad-header": RawRecord("bad-header", bad, b"{}")}


def _unknown() -> RawRecord:
    """Of a type that nobody takes: settled, and no letter."""
    return RawRecord("unknown-type", _headers("faults.item.painted.v1"), b"{}")


def _headers(event_type: str) -> dict[str, bytes]:
    envelope = Envelope(
        id=uuid4(), type=event_type, source=SOURCE, time=datetime.now(UTC), workspace_id=WORKSPACE, sequence=1
    )
    return {name: value.encode() for name, value in envelope.headers().items()}
