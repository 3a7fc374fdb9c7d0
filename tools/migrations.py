"""Check that the migrations of every service make exactly what its models say, on a real Postgres.

Services with branches of migrations are checked with all of them, and without any.
"""

import asyncio
import sys
from pathlib import Path

from kgl_servicekit.database.migrations import branches_of, check_drift
from kgl_servicekit.testing.postgres import PostgresForTests, temporary_postgres

SERVICES = Path(__file__).parent.parent / "services"


async def drifted(postgres: PostgresForTests) -> list[str]:
    """One line for each service whose models and migrations differ."""
    lines = []
    for migrations in sorted(SERVICES.glob("*/migrations")):
        for branches in {branches_of(migrations): None, (): None}:
            async with postgres.database(migrations, branches) as roles:
                if drift := await check_drift(migrations, roles.owner, branches):
                    lines.append(f"{migrations.parent.name} with {branches or 'no branch'}: {drift}")
    return lines


def main() -> int:
    """Print what differs; 1 if anything does."""
    with temporary_postgres() as url:
        lines = asyncio.run(drifted(PostgresForTests(url)))
    print("\n".join(lines) or "migrations: the same as the models")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
