"""The tables: what the models say, and who may do what to them."""

import asyncpg
import pytest

from kgl_auth.bootstrap import MIGRATIONS
from kgl_auth.db.tables import METADATA, UNSCOPED
from kgl_servicekit.database.core_schema import CORE_TABLES
from kgl_servicekit.database.migrations import check_drift
from kgl_servicekit.testing.postgres import Roles


async def test_the_migrations_of_auth_make_what_its_models_say(roles: Roles) -> None:
    assert await check_drift(MIGRATIONS, roles.owner) is None


async def test_every_table_has_a_policy_or_is_listed_as_having_none(roles: Roles) -> None:
    connection = await asyncpg.connect(roles.superuser)
    try:
        rows = await connection.fetch(
            """select relname, relrowsecurity from pg_class where relnamespace = 'public'::regnamespace
               and relkind in ('r', 'p') and not relispartition"""
        )
    finally:
        await connection.close()
    without = {row["relname"] for row in rows if not row["relrowsecurity"]}
    assert without == {*CORE_TABLES, *UNSCOPED, "alembic_version"}
    assert {row["relname"] for row in rows if row["relrowsecurity"]} == set(METADATA.tables) - without


@pytest.mark.parametrize("table", ["audit_record", "audit_chain"])
@pytest.mark.parametrize(
    "statement",
    [
        "update {} set number = 2",
        "delete from {}",
        "truncate {}",
        "insert into {} (scope, number, hash) values ('instance', 1, '')",
    ],
)
async def test_the_service_role_cannot_write_to_the_audit_log_by_itself(
    roles: Roles, table: str, statement: str
) -> None:
    connection = await asyncpg.connect(roles.service)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement.format(table))
        assert await connection.fetchval(f"select count(*) from {table}") is not None
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ('{"scope": "0198f3a0-0000-7000-8000-000000000010"}', asyncpg.InsufficientPrivilegeError),
        ('{"scope": "elsewhere"}', asyncpg.InvalidTextRepresentationError),
        ("{}", asyncpg.RaiseError),
        ("nonsense", asyncpg.InvalidTextRepresentationError),
    ],
)
async def test_the_log_takes_records_of_the_transactions_workspace_alone(
    roles: Roles, record: str, error: type[Exception]
) -> None:
    connection = await asyncpg.connect(roles.service)
    try:
        with pytest.raises(error):
            await connection.execute("select kgl_audit_append($1)", record)
    finally:
        await connection.close()
