"""The simulated database does what Postgres does, statement by statement, with the same waits."""

from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from kgl_servicekit.testing.postgres import PostgresForTests
from tests.simulation.on_postgres import Replay, prepare
from tests.simulation.recording import Event, Recording
from tests.simulation.run import run_schedule
from tests.simulation.server import Server, Session
from tests.simulation.sql_tokens import NotUnderstood
from tests.simulation.world import SCHEMA

_SHORT, _LONG = 6, 200


def _record(schedules: int) -> list[tuple[int, list[Event]]]:
    """What these schedules asked of the database."""
    recorded = []
    for seed in range(schedules):
        recording = Recording()
        run_schedule(seed, recording=recording)
        recorded.append((seed, recording.events))
    return recorded


@pytest.fixture(params=[_SHORT, pytest.param(_LONG, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def recorded(request: pytest.FixtureRequest) -> list[tuple[int, list[Event]]]:
    return _record(request.param)


async def test_a_real_server_does_the_same_with_the_same_waits(
    recorded: list[tuple[int, list[Event]]], postgres: PostgresForTests
) -> None:
    waits = 0
    async with postgres.database() as roles:
        await prepare(roles.superuser)
        for seed, events in recorded:
            replay = Replay(roles.superuser)
            try:
                await replay.run(events)
            except AssertionError as different:
                raise AssertionError(f"schedule {seed}: {different}") from different
            waits += replay.waits
    assert waits > 0


@pytest.fixture
def server() -> Server:
    return Server(SCHEMA, lambda: datetime(2030, 1, 1, tzinfo=UTC))


def _ask(session: Session, sql: str, *args: Any) -> Any:
    """The rows, or that it waits."""
    return session.outcome().rows if session.start(sql, args) else "waits"


def _count(session: Session, name: str) -> Any:
    return _ask(
        session,
        "insert into tally (name, value) values ($1, 1) on conflict (name) do update set value = tally.value + 1"
        " returning value",
        name,
    )


def test_a_statement_that_waited_goes_by_the_newest_version_of_the_row(server: Server) -> None:
    one, other = server.connect("one"), server.connect("other")
    assert _count(one, "a") == [(1,)]
    _ask(one, "begin")
    assert _count(one, "a") == [(2,)]
    assert _count(other, "a") == "waits"
    _ask(one, "commit")
    assert other.go_on()
    assert other.outcome().rows == [(3,)]


def test_a_row_that_was_waited_for_has_to_meet_what_it_was_joined_by(server: Server) -> None:
    one, other = server.connect("one"), server.connect("other")
    _count(one, "a")
    _ask(one, "begin")
    _count(one, "a")
    wanted = "join unnest($1::text[], $2::bigint[]) as w(name, value) using (name, value)"
    assert _ask(other, f"select t.name from tally t {wanted} for update of t", ["a"], [1]) == "waits"
    _ask(one, "commit")
    assert other.go_on()
    assert other.outcome().rows == []


def test_what_was_not_committed_is_not_seen_and_gone_with_the_connection(server: Server) -> None:
    one, other = server.connect("one"), server.connect("other")
    _ask(one, "begin")
    _count(one, "a")
    assert _ask(other, "select name from tally") == []
    one.close()
    assert _ask(other, "select name from tally") == []
    assert _count(other, "a") == [(1,)]


def test_a_row_that_is_locked_is_skipped_only_by_who_says_so(server: Server) -> None:
    one, other = server.connect("one"), server.connect("other")
    for name in ("a", "b"):
        _count(one, name)
    _ask(one, "begin")
    _ask(one, "select name from tally where name = 'a' for update")
    assert _ask(other, "select name from tally order by name limit 1 for update skip locked") == [("b",)]
    assert _ask(other, "select name from tally order by name limit 1") == [("a",)]
    assert _ask(other, "select name from tally order by name limit 1 for share") == "waits"


def test_a_circle_of_waiting_has_a_victim(server: Server) -> None:
    one, other = server.connect("one"), server.connect("other")
    for name in ("a", "b"):
        _count(one, name)
    for session, name in ((one, "a"), (other, "b")):
        _ask(session, "begin")
        _count(session, name)
    assert _count(one, "b") == "waits"
    with pytest.raises(asyncpg.DeadlockDetectedError):
        _count(other, "a")
    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        _count(other, "c")
    _ask(other, "rollback")
    assert one.go_on()
    assert one.outcome().rows == [(2,)]


def test_two_that_insert_the_same_key_wait_for_each_other(server: Server) -> None:
    one, other = server.connect("one"), server.connect("other")
    insert = "insert into tally (name, value) values ($1, 1)"
    _ask(one, "begin")
    _ask(one, insert, "a")
    assert _ask(other, insert, "a") == "waits"
    _ask(one, "commit")
    assert other.go_on()
    with pytest.raises(asyncpg.UniqueViolationError):
        other.outcome()


@pytest.mark.parametrize(
    "sql",
    [
        "select name from tally tablesample system (1)",
        "select lead(name) over (order by name) from tally",
        "update tally set name = 'b'",
        "select name from nobody_knows",
        "select name from tally for no key update",
        "lock table tally",
    ],
)
def test_what_is_not_understood_fails_loudly(server: Server, sql: str) -> None:
    with pytest.raises(NotUnderstood):
        _ask(server.connect("one"), sql)
