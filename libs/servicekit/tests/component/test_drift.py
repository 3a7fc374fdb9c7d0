"""How a check is run: two looks, the repair, what is kept of it, and who looks in a night."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime

import pytest
from prometheus_client import REGISTRY

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.drift import run as running
from kgl_servicekit.drift.check import Item
from kgl_servicekit.drift.run import DriftWatch, run_check
from kgl_servicekit.drift.table import DriftResult, create_drift, examine_drift, next_look
from kgl_servicekit.errors import Unavailable
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.postgres import Roles

WORKSPACE = uuid7()


def item(key: str, state: str = "wrong 1") -> Item:
    return Item(WORKSPACE, key, state)


class Check:
    """Finds in two looks what it is told to."""

    name = "counter.things"
    by_hand: Mapping[str, str] = {}

    def __init__(self, *looks: Sequence[Item]) -> None:
        self.looks = list(looks)
        self.asked: list[Item] = []
        self.repaired: list[Item] = []
        self.mends: int | None = None
        self.fails: Exception | None = None

    async def look(self) -> AsyncIterator[Sequence[Item]]:
        if self.fails:
            raise self.fails
        found = self.looks.pop(0)
        yield found[:1]
        yield found[1:]

    async def again(self, items: Sequence[Item]) -> Sequence[Item]:
        self.asked = list(items)
        return self.looks.pop(0)

    async def repair(self, items: Sequence[Item]) -> int:
        self.repaired += items
        return len(items) if self.mends is None else self.mends


class Stopped(Check):
    """Is cancelled in the midst of its repair."""

    async def repair(self, items: Sequence[Item]) -> int:
        raise asyncio.CancelledError


@pytest.fixture(autouse=True)
async def table(roles: Roles, database: Database) -> None:
    """The table that a service with checks has."""
    statements: list[str] = []

    class Gathered:
        def execute(self, sqltext: str) -> None:
            statements.append(sqltext)

    create_drift(Gathered(), "counter")  # type: ignore[arg-type]
    owner = Database(roles.owner, service="counter")
    await owner.start()
    for statement in statements:
        await execute(owner, statement)
    await owner.stop()


async def execute(database: Database, sql: str) -> None:
    async def write(tx: Transaction, _: None) -> None:
        await tx.execute(sql)

    await database.run((), write, None)


async def told(database: Database) -> list[str]:
    return [each.what for each in await database.run((), examine_drift, {})]


async def test_only_what_differs_in_both_looks_in_the_same_state_is_drift(database: Database) -> None:
    looks = [item("a"), item("b"), item("c")], [item("a"), item("b", "wrong 2"), item("d")]
    check = Check(*looks)
    result = await run_check(database, check, pause=0)
    assert result == DriftResult(check="counter.things", items=1, examples=(str(item("a")),))
    assert (check.asked, check.repaired) == (list(looks[0]), [])


async def test_nothing_is_asked_again_or_repaired_where_all_is_well(database: Database) -> None:
    check = Check([])
    assert (await run_check(database, check, repair=True, pause=0)).well
    assert (check.asked, check.repaired) == ([], [])
    assert await told(database) == []


async def test_the_repair_gets_what_is_drift_and_the_doctor_is_told_of_the_rest(database: Database) -> None:
    check = Check([item("a")], [item("a")])
    await run_check(database, check, pause=0)
    (line,) = await told(database)
    assert line == f"counter.things: 1 differ from their source, 0 s ago, such as {item('a')}"
    check = Check([item("a")], [item("a")])
    assert (await run_check(database, check, repair=True, pause=0)).well
    assert check.repaired == [item("a")]
    assert await told(database) == []


LOST = {"lost": "look for it"}


@pytest.mark.parametrize(
    ("states", "repairs", "todo"),
    [
        (["lost"] * 7, False, "look for it"),
        ([*["lost"] * 7, "wrong"], False, "kgl drift --repair; look for it"),
        ([*["wrong"] * 7, "lost"], False, "kgl drift --repair; look for it"),
        ([*["wrong"] * 7, "lost"], True, "look for it"),  # as the repair has left it
        (["wrong"], False, "kgl drift --repair"),
    ],
)
async def test_the_doctor_says_what_to_do_about_what_no_repair_mends(
    database: Database, states: list[str], repairs: bool, todo: str
) -> None:
    items = [item(str(number), state) for number, state in enumerate(states)]
    check = Check(items, items)
    check.by_hand = LOST
    check.mends = len(items) - 1
    result = await run_check(database, check, repair=repairs, pause=0)
    assert len(result.examples) == min(len(items), 5)
    (left,) = await database.run((), examine_drift, {check.name: LOST})
    assert left.todo == todo


async def audited(database: Database) -> list[tuple[str, str, dict[str, int | None]]]:
    async def read(tx: Transaction, _: None) -> list[tuple[str, str, dict[str, int | None]]]:
        rows = await tx.fetch(
            "select convert_from(data, 'UTF8')::jsonb as data from outbox_log where topic = 'kgl.audit' order by id"
        )
        return [(row["data"]["action"], row["data"]["target"], row["data"]["details"]) for row in rows]

    return await database.run((), read, None)


async def test_each_repair_is_audited_with_its_counts_and_a_look_is_not(database: Database) -> None:
    items = [item("a"), item("b")]
    await run_check(database, Check(items, items), pause=0)
    await run_check(database, Check([]), repair=True, pause=0)
    assert await audited(database) == []
    check = Check(items, items)
    check.mends = 1
    await run_check(database, check, repair=True, pause=0)
    record = ("drift.repair", "drift:counter.things")
    assert await audited(database) == [(*record, {"items": 2, "repaired": 1})]
    with pytest.raises(asyncio.CancelledError):
        await run_check(database, Stopped(items, items), repair=True, pause=0)
    assert (await audited(database))[1:] == [(*record, {"items": 2, "repaired": None})]


async def test_an_outage_is_the_result_and_leaves_what_was_found_before(database: Database) -> None:
    await run_check(database, Check([item("a")], [item("a")]), pause=0)
    check = Check()
    check.fails = Unavailable("The store is out.")
    result = await run_check(database, check, pause=0)
    assert (result.error, result.well) == ("Unavailable: The store is out.", False)
    error, left = await told(database)
    assert error == "counter.things could not be looked at, 0 s ago: Unavailable: The store is out."
    assert left.startswith("counter.things: 1 differ")


async def test_a_look_ends_at_the_most_that_it_may_find(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_MOST", 1)
    result = await run_check(database, Check([item("a"), item("b")], [item("a")]), pause=0)
    assert (result.items, result.complete) == (1, False)
    assert "1 or more differ" in (await told(database))[0]
    assert result.lines()[0] == "counter.things: 1 or more differ"


async def test_one_worker_looks_in_a_night_and_all_show_what_was_found(database: Database) -> None:
    check = Check([item("a")], [])
    first, second = (DriftWatch(database, [check], 3, pause=0) for _ in range(2))
    await first.once()
    assert check.looks  # the first look is in the coming night
    await execute(database, "update drift_check set next_at = now()")
    check.looks[1:] = [[item("a")]]
    await first.once()
    assert check.looks == []
    await second.once()
    assert REGISTRY.get_sample_value("kgl_drift_items", {"check": check.name}) == 1
    await execute(database, "update drift_check set next_at = now() - interval '2 days'")
    assert "counter.things was not looked at when it was due" in await told(database)
    never = DriftWatch(database, [check], -1)
    await never.once()
    assert check.looks == []


@pytest.mark.parametrize(("now", "day"), [(2, 1), (3, 2), (4, 2)])
def test_the_next_look_is_at_the_hour_of_today_or_tomorrow(now: int, day: int) -> None:
    assert next_look(3, datetime(2026, 1, 1, now, tzinfo=UTC)) == datetime(2026, 1, day, 3, tzinfo=UTC)
