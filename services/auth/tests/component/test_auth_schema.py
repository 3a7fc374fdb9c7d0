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


@pytest.mark.parametrize(
    "statement", ["update audit_record set number = 2", "delete from audit_record", "truncate audit_record"]
)
async def test_the_service_role_cannot_change_the_audit_log(roles: Roles, statement: str) -> None:
    connection = await asyncpg.connect(roles.service)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
        assert await connection.fetchval("select count(*) from audit_record") is not None
    finally:
        await connection.close()
