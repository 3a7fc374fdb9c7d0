"""Graph on a Postgres without pgvector, and databases that were made when there was nothing else."""

import shutil
from pathlib import Path

import asyncpg
import pytest

from kgl_graph.bootstrap import MIGRATIONS
from kgl_graph.db.tables import PGVECTOR
from kgl_graph.stores.memory_vectors import MemoryVectors
from kgl_graph.testing import graph_kit
from kgl_servicekit.database.core_migration import protect
from kgl_servicekit.database.migrations import check_drift, migrate
from kgl_servicekit.ids import uuid7
from kgl_servicekit.settings import NotConfigured
from kgl_servicekit.testing.postgres import PostgresForTests, Roles

NEWEST = max(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))

# the first migration as it was when pgvector was the only place for vectors
_FORMER = """
create table chunk_vector (
    workspace_id uuid not null,
    chunk_id uuid not null,
    document_id uuid not null,
    version integer not null,
    embedding vector(256) not null,
    constraint pk_chunk_vector primary key (workspace_id, chunk_id)
);
create index ix_chunk_vector_document on chunk_vector (workspace_id, document_id);
create index ix_chunk_vector_embedding on chunk_vector using hnsw (embedding vector_cosine_ops)
"""


async def execute(url: str, sql: str, *args: object) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(sql, *args)
    await connection.close()


async def value(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    found = await connection.fetchval(sql)
    await connection.close()
    return found


async def make_former(roles: Roles, folder: Path) -> None:
    """A database with a vector, as a release left it that knew migrations 1 to 5."""
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("branches", "000[6-9]_*"))
    await migrate(folder, roles.owner)
    statements: list[str] = []

    class Op:
        def execute(self, sqltext: str) -> None:
            statements.append(sqltext)

    Op().execute(_FORMER)
    protect(Op(), "chunk_vector")  # type: ignore[arg-type]
    await execute(roles.owner, ";".join(statements))
    zeros = "[" + ",".join("1" * 256) + "]"
    await execute(roles.owner, f"insert into chunk_vector values ($1, $1, $1, 1, '{zeros}')", uuid7())


async def test_graph_indexes_and_searches_on_a_postgres_without_the_extension(postgres: PostgresForTests) -> None:
    async with graph_kit(postgres, MemoryVectors()) as graph:
        assert await graph.rows("select 1 from pg_extension where extname = 'vector'") == []
        document = await graph.index(["the harbour at night", "bread and salt"])
        for mode in ("text", "vector", "hybrid"):
            params = {"q": "harbour", "mode": mode}
            answer = await graph.client.get("/graph/v1/search", params=params, headers=graph.headers)
            assert answer.json()["hits"][0]["document_id"] == str(document)


async def test_chunks_that_the_database_does_not_have_any_more_are_left_out(postgres: PostgresForTests) -> None:
    store = MemoryVectors()
    async with graph_kit(postgres, store) as graph:
        document = await graph.index(["the harbour at night", "boats in the harbour"])
        await graph.rows("delete from chunk where text like 'boats%' returning id")
        assert len(store.kept[graph.workspace]) == 2
        for mode in ("vector", "hybrid"):
            params = {"q": "boats", "mode": mode}
            answer = await graph.client.get("/graph/v1/search", params=params, headers=graph.headers)
            assert [hit["snippet"] for hit in answer.json()["hits"]] == ["the harbour at night"], document


@pytest.mark.parametrize("branches", [(PGVECTOR,), ()], ids=["pgvector", "elsewhere"])
async def test_a_database_that_was_made_before_keeps_its_vectors(
    postgres: PostgresForTests, tmp_path: Path, branches: tuple[str, ...]
) -> None:
    async with postgres.database() as roles:
        await make_former(roles, tmp_path / "former")
        for _ in range(2):
            await migrate(MIGRATIONS, roles.owner, branches)
        assert await value(roles.owner, "select count(*) from chunk_vector") == 1
        await migrate(MIGRATIONS, roles.owner, (PGVECTOR,))  # whatever was chosen, pgvector may be later
        await migrate(MIGRATIONS, roles.owner)
        assert await check_drift(MIGRATIONS, roles.owner, (PGVECTOR,)) is None
        await execute(roles.service, "select kgl_rebuild_search_start()")
        assert await value(roles.service, "select kgl_rebuild_search_stands()") is True
        assert await value(roles.owner, "select to_regclass('chunk_vector_next')::text") == "chunk_vector_next"


async def test_pgvector_can_be_chosen_later_and_says_what_it_needs(postgres: PostgresForTests) -> None:
    async with postgres.database(MIGRATIONS, ()) as roles:
        with pytest.raises(NotConfigured, match="create extension vector"):
            await migrate(MIGRATIONS, roles.owner, (PGVECTOR,))
        assert await value(roles.owner, "select array_agg(version_num) from alembic_version") == [NEWEST]
        await execute(roles.superuser, "create extension vector")
        await migrate(MIGRATIONS, roles.owner, (PGVECTOR,))
        assert await check_drift(MIGRATIONS, roles.owner, (PGVECTOR,)) is None
        assert await value(roles.service, "select count(*) from chunk_vector") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await execute(roles.service, "drop table chunk_vector")
