"""A start that finds nothing to migrate, and branches that are applied where they are chosen."""

import shutil
from pathlib import Path

import asyncpg
import pytest

from kgl_servicekit.database.migrations import branches_of, migrate
from kgl_servicekit.testing.counter import MIGRATIONS
from kgl_servicekit.testing.postgres import PostgresForTests


async def test_a_database_at_the_newest_revision_runs_no_environment(
    postgres: PostgresForTests, tmp_path: Path
) -> None:
    shutil.copytree(MIGRATIONS / "versions", tmp_path / "versions")
    environment = "raise RuntimeError('the environment runs')"
    (tmp_path / "env.py").write_text(environment)
    async with postgres.database(MIGRATIONS) as roles:
        await migrate(tmp_path, roles.owner)
        newer = "revision = '9999'\ndown_revision = '0002'\n"
        (tmp_path / "versions" / "9999_newer.py").write_text(newer)
        with pytest.raises(RuntimeError, match="the environment runs"):
            await migrate(tmp_path, roles.owner)
    async with postgres.database() as empty:
        with pytest.raises(RuntimeError, match="the environment runs"):
            await migrate(tmp_path, empty.owner)


_BRANCH = """
from alembic import op

revision = "more_{number}"
down_revision = {previous}


def upgrade() -> None:
    op.execute("create table more_{number} ()")
"""


async def _there(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("select relname from pg_class where relkind = 'r' and relname like 'more_%'")
    await connection.close()
    return {row["relname"] for row in rows}


async def test_a_branch_is_applied_where_it_is_chosen_and_stays(postgres: PostgresForTests, tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder)
    branch = folder / "branches" / "more"
    branch.mkdir(parents=True)
    (branch / "more_0001_start.py").write_text(_BRANCH.format(number="0001", previous=None))
    assert branches_of(folder) == ("more",)
    async with postgres.database() as roles:
        await migrate(folder, roles.owner)
        assert await _there(roles.owner) == set()
        await migrate(folder, roles.owner, ("more",))
        assert await _there(roles.owner) == {"more_0001"}
        (branch / "more_0002_next.py").write_text(_BRANCH.format(number="0002", previous="'more_0001'"))
        for chosen in ((), ("more",)):
            newest = max(file.name[:4] for file in (folder / "versions").glob("[0-9]*.py"))
            number = f"{int(newest) + 1:04}"
            (folder / "versions" / f"{number}_newer.py").write_text(
                f"revision = '{number}'\ndown_revision = '{newest}'\ndef upgrade() -> None: ...\n"
            )
            await migrate(folder, roles.owner, chosen)
            assert await _there(roles.owner) == {"more_0001", *(["more_0002"] if chosen else [])}
