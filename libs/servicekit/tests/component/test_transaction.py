import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from kgl_contracts.ai import Summary
from kgl_contracts.content import ItemPublished
from kgl_contracts.ingest import DocumentDeleted
from kgl_contracts.operations import PlannedStage, Subject
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.core_schema import CORE_TABLES
from kgl_servicekit.database.engine import Database, DatabaseUnavailable, KeepsConflicting
from kgl_servicekit.database.maintenance import tidy
from kgl_servicekit.database.migrations import check_drift
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.outbox import EventRefused
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.counter import METADATA, MIGRATIONS, count, count_and_tell
from kgl_servicekit.testing.postgres import PostgresForTests, Roles


@pytest.fixture(scope="module")
async def roles(postgres: PostgresForTests) -> AsyncIterator[Roles]:
    async with postgres.database(MIGRATIONS) as roles:
        yield roles


@pytest.fixture(scope="module")
async def database(roles: Roles) -> AsyncIterator[Database]:
    database = Database(roles.service, service="counter")
    await database.start()
    yield database
    await database.stop()


async def outbox(database: Database, key: UUID) -> list[asyncpg.Record]:
    async def read(tx: Transaction, key: UUID) -> list[asyncpg.Record]:
        return await tx.fetch(
            "select l.*, p.shard from outbox_log l join outbox_pending p using (id) where key = $1 order by l.id",
            str(key),
        )

    return await database.run((), read, key)


async def test_the_migrations_make_what_the_models_say(roles: Roles) -> None:
    assert await check_drift(MIGRATIONS, roles.owner) is None


async def test_an_effect_and_its_event_are_committed_together_and_numbered_by_key(database: Database) -> None:
    workspace, document = uuid7(), uuid7()
    for _ in range(3):
        await database.run(workspace, count_and_tell, document)
    rows = await outbox(database, document)
    assert [row["sequence"] for row in rows] == [1, 2, 3]
    assert {row["workspace_id"] for row in rows} == {workspace}
    assert len({row["shard"] for row in rows}) == 1


async def test_nothing_is_left_of_a_use_case_that_raises(database: Database) -> None:
    workspace, document = uuid7(), uuid7()

    async def count_then_fail(tx: Transaction, document: UUID) -> None:
        await count_and_tell(tx, document)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.run(workspace, count_then_fail, document)
    assert await outbox(database, document) == []
    assert await database.run(workspace, count, str(document)) == 1


@pytest.mark.parametrize("each", [(1, 1, 1), (2, 3), (1, 2, 1)], ids=["one event", "several", "both"])
async def test_concurrent_writers_of_one_key_number_without_gaps_in_id_order(
    database: Database, each: tuple[int, ...]
) -> None:
    workspace, document = uuid7(), uuid7()

    async def tell(tx: Transaction, count: int) -> None:  # no row of its own, whose lock would put them in line
        for version in range(1, count + 1):
            await tx.emit(DocumentDeleted(document_id=document, version=version))

    counts = [*each] * 70
    await asyncio.gather(*(database.run(workspace, tell, count) for count in counts))
    rows = await outbox(database, document)
    assert [row["sequence"] for row in rows] == list(range(1, sum(counts) + 1))


async def test_several_events_of_one_transaction_keep_their_order(database: Database) -> None:
    workspace, first, second = uuid7(), uuid7(), uuid7()

    async def tell(tx: Transaction, _: None) -> None:
        for version in (1, 2, 3):
            await tx.emit(DocumentDeleted(document_id=first, version=version))
            await tx.emit(DocumentDeleted(document_id=second, version=version * 10))

    await database.run(workspace, tell, None)
    for key, versions in ((first, [1, 2, 3]), (second, [10, 20, 30])):
        rows = await outbox(database, key)
        assert [row["sequence"] for row in rows] == [1, 2, 3]
        assert [DocumentDeleted.model_validate_json(row["data"]).version for row in rows] == versions


async def test_a_workspace_neither_sees_nor_writes_the_rows_of_another(database: Database) -> None:
    mine, theirs = uuid7(), uuid7()
    await database.run(theirs, count, "x")

    async def look(tx: Transaction, name: str) -> int:
        found: int = await tx.fetchval("select count(*) from counter where name = $1", name)
        return found

    async def write_into(tx: Transaction, workspace: UUID) -> None:
        await tx.execute("insert into counter values ($1, 'x', 1)", workspace)

    assert await database.run(mine, look, "x") == 0
    assert await database.run((), look, "x") == 0
    assert await database.run((mine, theirs), look, "x") == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.run(mine, write_into, theirs)


async def test_every_table_is_of_the_core_or_has_a_policy_and_none_belongs_to_the_service(roles: Roles) -> None:
    connection = await asyncpg.connect(roles.superuser)
    try:
        open_tables = await connection.fetch(
            """select relname from pg_class c where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
               and not relrowsecurity and not relispartition"""
        )
        owned = await connection.fetchval(
            "select count(*) from pg_class c join pg_roles r on r.oid = c.relowner where r.rolname = $1",
            await connection.fetchval("select datname from pg_database limit 0") or "",
        )
        service = await asyncpg.connect(roles.service)
        try:
            role = await service.fetchrow(
                """select rolbypassrls, rolsuper, (select count(*) from pg_class c where c.relowner = r.oid) as owns,
                          (select count(*) from pg_auth_members m where m.member = r.oid) as memberships
                   from pg_roles r where rolname = current_user"""
            )
        finally:
            await service.close()
    finally:
        await connection.close()
    assert owned == 0
    assert {row["relname"] for row in open_tables} == {*CORE_TABLES, "alembic_version"}
    assert role is not None
    assert not role["rolbypassrls"]
    assert not role["rolsuper"]
    assert role["owns"] == 0
    assert role["memberships"] == 0
    assert "counter" in METADATA.tables


async def test_an_event_that_is_too_large_is_refused_and_takes_its_effect_along(database: Database) -> None:
    workspace = uuid7()

    async def tell(tx: Transaction, _: None) -> None:
        await count(tx, "large")
        event = ItemPublished.example().model_copy(update={"excerpt": "x" * 70_000})
        await tx.emit(event)

    with pytest.raises(EventRefused, match="65536"):
        await database.run(workspace, tell, None)
    assert await database.run(workspace, count, "large") == 1


async def test_a_receipt_and_its_reports_leave_as_events_of_their_own_keys(database: Database) -> None:
    workspace, subject = uuid7(), Subject(type="thing", id=uuid7())

    async def start(tx: Transaction, _: None) -> UUID:
        receipt = await tx.start_operation("test", subject, [PlannedStage(name="a"), PlannedStage(name="b")])
        await tx.report("a", "done", operation=receipt.id)
        assert [stage.state for stage in receipt.stages] == ["waiting", "waiting"]
        return receipt.id

    operation = await database.run(workspace, start, None)
    assert [row["type"] for row in await outbox(database, operation)] == ["operations.operation.started.v2"]


async def test_a_deadlock_is_tried_again_and_both_effects_come_true(database: Database) -> None:
    workspace = uuid7()
    await database.run(workspace, count, "a")
    await database.run(workspace, count, "b")
    met = asyncio.Barrier(2)
    first_try = {"ab": True, "ba": True}

    async def both(tx: Transaction, order: str) -> None:
        await count(tx, order[0])
        if first_try.pop(order, False):
            await asyncio.wait_for(met.wait(), 5)
        await count(tx, order[1])

    await asyncio.gather(database.run(workspace, both, "ab"), database.run(workspace, both, "ba"))
    assert await database.run(workspace, count, "a") == 4


async def test_a_transaction_that_deadlocks_at_every_try_says_that_others_went_first(database: Database) -> None:
    async def collides(tx: Transaction, _: None) -> None:
        await tx.execute("do $$ begin raise exception using errcode = 'deadlock_detected'; end $$")

    with pytest.raises(KeepsConflicting) as told:
        await database.run((), collides, None)
    assert (told.value.status, told.value.code, told.value.retry_after) == (503, "keeps_conflicting", 1)


async def test_ids_repeat_under_an_event_and_never_under_a_request(database: Database) -> None:
    made: list[UUID] = []

    document = uuid7()

    async def make(tx: Transaction, _: None) -> None:
        made.extend([tx.new_id(), tx.new_id()])
        await tx.emit(DocumentDeleted(document_id=document, version=1), instance=True)

    cause = Cause(id=uuid7(), kind="event", actor="service:counter")
    await database.run((), make, None, cause=cause)
    await database.run((), make, None, cause=cause)
    assert made[:2] == made[2:]
    assert made[0] != made[1]
    first, again = await outbox(database, document)
    assert first["event_id"] == again["event_id"]
    made.clear()
    await database.run((), make, None)
    assert (await outbox(database, document))[2]["event_id"] != first["event_id"]
    assert made[0] != made[1]
    assert made[0].version == 7


async def test_the_outbox_keeps_its_partitions_and_refuses_foolish_arguments(database: Database) -> None:
    await database.run((), tidy, 7)

    async def foolish(tx: Transaction, _: None) -> None:
        await tx.fetchval("select kgl_outbox_partitions(3, 0)")

    with pytest.raises(asyncpg.RaiseError, match="days_kept"):
        await database.run((), foolish, None)


async def test_a_closed_or_missing_database_is_unavailable_and_says_so(roles: Roles) -> None:
    database = Database(roles.service, service="counter")
    with pytest.raises(DatabaseUnavailable):
        await database.ping()
    assert Summary(title="t", text="x").sources == ()
