"""Statements of blobs: the stored files, and what nothing refers to any more.

live ─mark_unreferenced─► deleting ─(the object is deleted)─► forget

A generation is never used twice, so an object that has no row is nobody's, and no upload can come back to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from kgl_ingest.domain.documents import version_of_key
from kgl_servicekit.database.transaction import Transaction

_UNREFERENCED = """not exists (
    select from document_version v
    where v.workspace_id = b.workspace_id and v.sha256 = b.sha256 and v.object_key = b.key and v.state <> 'deleted')"""

_LOCK_OLD = f"""
select sha256, generation from blob b
where workspace_id = $1 and state = 'live' and created_at < now() - $2::interval and {_UNREFERENCED}
order by sha256, generation limit $3 for update skip locked
"""

_LOCK_CONTENTS = """
select sha256, generation from blob where workspace_id = $1 and sha256 = any($2::text[])
order by sha256, generation for update
"""

_MARK = f"""
update blob b set state = 'deleting'
from unnest($2::text[], $3::bigint[]) as locked(sha256, generation)
where b.workspace_id = $1 and b.sha256 = locked.sha256 and b.generation = locked.generation and {_UNREFERENCED}
returning b.key, b.size
"""

# a version that may still be parsed may come back to an object that it wrote before
_UNKNOWN = """
select k.key from unnest($2::text[], $3::uuid[], $4::int[]) as k(key, document_id, version)
where not exists (select from blob b where b.workspace_id = $1 and b.key = k.key)
  and not exists (
    select from document_version v
    where v.workspace_id = $1 and v.document_id = k.document_id and v.version = k.version
      and (v.chunks_object = k.key or v.text_object = k.key or v.state not in ('parsed', 'deleted', 'cancelled')))
"""


@dataclass(frozen=True, slots=True)
class Doomed:
    """A file that goes, and its size in bytes."""

    key: str
    size: int


async def living_generation(tx: Transaction, sha256: str) -> int | None:
    """The generation under which this content is stored, if it is."""
    found: int | None = await tx.fetchval(
        "select max(generation) from blob where workspace_id = $1 and sha256 = $2 and state = 'live'",
        tx.workspace,
        sha256,
    )
    return found


async def claim(tx: Transaction, sha256: str, generation: int, size: int, *, fresh: bool) -> int | None:
    """Lock the living blob of this content, or insert the one that was just stored (`fresh`); its generation.

    None when the blob that was thought to live is going or gone: the content has to be stored anew.
    """
    living: int | None = await tx.fetchval(
        """select generation from blob where workspace_id = $1 and sha256 = $2 and state = 'live'
           order by generation desc limit 1 for update""",
        tx.workspace,
        sha256,
    )
    if living is not None or not fresh:
        return living
    await tx.execute(
        """insert into blob (workspace_id, sha256, generation, state, size, created_at)
           values ($1, $2, $3, 'live', $4, $5)""",
        tx.workspace,
        sha256,
        generation,
        size,
        tx.now,
    )
    return generation


async def mark_old(tx: Transaction, older_than: timedelta, most: int) -> list[Doomed]:
    """Mark files that nothing refers to, and that are older than this; those that an upload holds are left."""
    return await _mark(tx, await tx.fetch(_LOCK_OLD, tx.workspace, older_than, most))


async def mark_contents(tx: Transaction, contents: Sequence[str]) -> list[Doomed]:
    """Mark the files with these contents that nothing refers to, whatever their age."""
    return await _mark(tx, await tx.fetch(_LOCK_CONTENTS, tx.workspace, list(contents)))


async def _mark(tx: Transaction, locked: Sequence[asyncpg.Record]) -> list[Doomed]:
    """A statement of its own: only one that begins under the locks sees every reference made before them."""
    if not locked:
        return []
    rows = await tx.fetch(_MARK, tx.workspace, [row["sha256"] for row in locked], [row["generation"] for row in locked])
    return [Doomed(**row) for row in rows]


async def deleting(tx: Transaction, most: int) -> list[Doomed]:
    """The files that are marked."""
    rows = await tx.fetch(
        "select key, size from blob where workspace_id = $1 and state = 'deleting' order by key limit $2",
        tx.workspace,
        most,
    )
    return [Doomed(**row) for row in rows]


async def forget(tx: Transaction, keys: Sequence[str]) -> None:
    """The objects of these marked files are deleted: their rows go, too."""
    await tx.execute(
        "delete from blob where workspace_id = $1 and key = any($2::text[]) and state = 'deleting'",
        tx.workspace,
        list(keys),
    )


async def unknown(tx: Transaction, keys: Sequence[str]) -> set[str]:
    """Those of these keys of the workspace that no row refers to, and none will."""
    places: list[tuple[UUID | None, int | None]] = [version_of_key(key) or (None, None) for key in keys]
    arguments: list[Any] = [list(keys), [document for document, _ in places], [version for _, version in places]]
    return {row["key"] for row in await tx.fetch(_UNKNOWN, tx.workspace, *arguments)}


async def collectable_workspaces(tx: Transaction, older_than: timedelta, most: int) -> list[UUID]:
    """The workspaces that have something to collect, found over all of them."""
    found: list[UUID] = await tx.fetchval("select kgl_collectable_workspaces($1, $2)", older_than, most)
    return found
