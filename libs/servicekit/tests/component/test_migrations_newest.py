"""A start that finds nothing to migrate."""

import shutil
from pathlib import Path

import pytest

from kgl_servicekit.database.migrations import migrate
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
