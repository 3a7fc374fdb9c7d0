"""What the stores of the five services hold after a run, read as they are."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from kgl_contracts.rights import SERVICES
from tests.faults.documents_system import DocumentsSystem


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentsState:
    """Everything by the id of its document.

    live        chunks of the newest version of each document that is there; None where it was not parsed
    versions    how many versions each document has had
    deleted     documents that are gone
    files       keys of objects that versions of live documents refer to
    objects     keys of objects that are there
    chunks      ids of the chunks of each document; `vectors` those that have a vector
    indexed     the version of each document that can be found
    receipts    state of each operation
    held        (service, subscription, key, state, reason)
    failed_jobs (service, kind, error)
    holes       (service, topic, key) whose sequences are not contiguous, or whose ids come twice
    """

    live: Mapping[str, int | None]
    versions: Mapping[str, int] = field(default_factory=dict)
    deleted: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    objects: frozenset[str] = frozenset()
    chunks: Mapping[str, Counter[str]] = field(default_factory=dict)
    vectors: Mapping[str, Counter[str]] = field(default_factory=dict)
    indexed: Mapping[str, int] = field(default_factory=dict)
    receipts: Mapping[str, str] = field(default_factory=dict)
    held: Sequence[tuple[str, ...]] = ()
    failed_jobs: Sequence[tuple[str, ...]] = ()
    holes: Sequence[tuple[str, ...]] = ()
    pending: int = 0
    events: int = 0


_LIVE = """
select d.id::text, d.version, v.chunk_count, d.deleted_at is not null as gone,
       array_remove(array[v.object_key, v.chunks_object, v.text_object], null) as keys
from document d left join document_version v on v.workspace_id = d.workspace_id and v.document_id = d.id
                                           and v.version = d.version
"""
_HOLES = """
select topic, key from outbox_log where sequence is not null
group by topic, key having count(*) <> max(sequence) or count(distinct event_id) <> count(*)
"""


async def rows(system: DocumentsSystem, service: str, statement: str) -> list[asyncpg.Record]:
    """From the database of one service, as a superuser."""
    connection = await asyncpg.connect(system.dsns[service])
    try:
        found: list[asyncpg.Record] = await connection.fetch(statement)
        return found
    finally:
        await connection.close()


async def collect(system: DocumentsSystem) -> DocumentsState:
    """All of it."""
    known = await rows(system, "ingest", _LIVE)
    live = [row for row in known if not row["gone"]]
    return DocumentsState(
        live={row["id"]: row["chunk_count"] for row in live},
        versions={row["id"]: row["version"] for row in known},
        deleted=frozenset(row["id"] for row in known if row["gone"]),
        files=frozenset(key for row in live for key in row["keys"]),
        objects=await _objects(system),
        chunks=_by_document(await rows(system, "graph", "select document_id::text, id::text from chunk")),
        vectors=_by_document(await rows(system, "graph", "select document_id::text, chunk_id::text from chunk_vector")),
        indexed={
            row[0]: row[1]
            for row in await rows(system, "graph", "select document_id::text, version from indexed_document")
        },
        receipts={row[0]: row[1] for row in await rows(system, "ingest", "select id::text, state from operation")},
        held=await _of_all(system, "select subscription, key, state, reason from held_event"),
        failed_jobs=await _of_all(system, "select kind, error from job where state = 'failed'"),
        holes=await _of_all(system, _HOLES),
        pending=sum(int(row[1]) for row in await _of_all(system, "select count(*)::text from outbox_pending")),
        events=sum(int(row[1]) for row in await _of_all(system, "select count(*)::text from outbox_log")),
    )


async def quiet(system: DocumentsSystem) -> bool:
    """Whether nothing is on its way any more."""
    waiting = """select ((select count(*) from outbox_pending)
                       + (select count(*) from job where state in ('queued', 'running'))
                       + (select count(*) from held_event where state <> 'dead'))::text"""
    return not any(int(row[1]) for row in await _of_all(system, waiting))


async def _of_all(system: DocumentsSystem, statement: str) -> list[tuple[str, ...]]:
    found = await asyncio.gather(*(rows(system, name, statement) for name in SERVICES))
    return [(name, *row) for name, of_one in zip(SERVICES, found, strict=True) for row in of_one]


def _by_document(found: Sequence[asyncpg.Record]) -> dict[str, Counter[str]]:
    made: dict[str, Counter[str]] = {}
    for document, id in found:
        made.setdefault(document, Counter())[id] += 1
    return made


async def _objects(system: DocumentsSystem) -> frozenset[str]:
    if system.s3 is not None:
        with system.s3.lock:
            return frozenset(system.s3.bucket.objects)
    return await asyncio.to_thread(_files, system.objects)


def _files(folder: Path) -> frozenset[str]:
    return frozenset(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
