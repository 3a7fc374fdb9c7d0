"""What the stores of the five services hold after a run, read as they are."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from kgl_contracts.rights import SERVICES
from tests.faults.system import DocumentsSystem


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentsState:
    """Everything by the id of its document.

    live        chunks of the newest version of each document that is there; None where it was not parsed
    names       the name of each document that is there; one that is deleted has none
    versions    how many versions each document has had
    deleted     documents that are gone
    accepted    how many receipts each document has for a version of it
    files       keys of objects that the newest versions of live documents refer to
    objects     keys of objects that have come
    chunks      ids of the chunks of each document; `vectors` those that have a vector
    indexed     the version of each document that can be found
    drafts      how many drafts there are about each document; `drafts_each` how many there have to be
    receipts    state of each operation
    held        (service, subscription, key, state, reason)
    failed_jobs (service, kind, error)
    holes       (service, topic, key) whose sequences are not contiguous, or whose ids come twice
    pending     events that no bus has acknowledged
    """

    live: Mapping[str, int | None]
    names: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    deleted: frozenset[str] = frozenset()
    accepted: Counter[str] = field(default_factory=Counter)
    files: frozenset[str] = frozenset()
    objects: frozenset[str] = frozenset()
    chunks: Mapping[str, Counter[str]] = field(default_factory=dict)
    vectors: Mapping[str, Counter[str]] = field(default_factory=dict)
    indexed: Mapping[str, int] = field(default_factory=dict)
    drafts: Counter[str] = field(default_factory=Counter)
    drafts_each: int = 0
    receipts: Mapping[str, str] = field(default_factory=dict)
    held: Sequence[tuple[str, ...]] = ()
    failed_jobs: Sequence[tuple[str, ...]] = ()
    holes: Sequence[tuple[str, ...]] = ()
    pending: int = 0
    events: int = 0


_DOCUMENTS = """
select d.id::text, d.name, d.version, v.chunk_count, d.deleted_at is not null as gone,
       array_remove(array[v.object_key, v.chunks_object, v.text_object], null) as keys
from document d left join document_version v on v.workspace_id = d.workspace_id and v.document_id = d.id
                                           and v.version = d.version
"""
_HOLES = """
select topic, key from outbox_log where sequence is not null
group by topic, key having count(*) <> max(sequence) or count(distinct event_id) <> count(*)
"""
_ACCEPTED = "select subject::text from operation where kind = 'ingest.document'"
_DRAFTS = "select document_id::text from item where document_id is not null"
_EVENTS = "select count(*)::text from outbox_log"
_PENDING = "select count(*)::text from outbox_pending"
_WAITING = """
select ((select count(*) from outbox_pending)
      + (select count(*) from job where state in ('queued', 'running'))
      + (select count(*) from held_event where state <> 'dead'))::text
"""


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of a running system; `others` and `objects` were there before, and as many `events`."""

    system: DocumentsSystem
    others: frozenset[str]
    objects: frozenset[str]
    events: int

    @classmethod
    async def of(cls, system: DocumentsSystem) -> Self:
        """As they are before the load."""
        others = frozenset(row[0] for row in await system.rows("ingest", "select id::text from document"))
        return cls(system, others, await system.objects(), await _sum_of_all(system, _EVENTS))

    async def collect(self) -> DocumentsState:
        """All of it that came since."""
        ingest, graph, content = (partial(self.system.rows, name) for name in ("ingest", "graph", "content"))
        known = await ingest(_DOCUMENTS)
        ours = [row for row in known if row["id"] not in self.others]
        live = [row for row in ours if not row["gone"]]
        return DocumentsState(
            live={row["id"]: row["chunk_count"] for row in live},
            names={row["id"]: row["name"] for row in live},
            versions={row["id"]: row["version"] for row in ours},
            deleted=frozenset(row["id"] for row in ours if row["gone"]),
            accepted=Counter(row[0] for row in await ingest(_ACCEPTED)),
            files=frozenset(key for row in live for key in row["keys"]),
            objects=await self.system.objects() - self.objects,
            chunks=self._by_document(await graph("select document_id::text, id::text from chunk")),
            vectors=self._by_document(await self.system.vectors()),
            indexed=dict(map(tuple, await graph("select document_id::text, version from indexed_document"))),
            drafts=Counter(row[0] for row in await content(_DRAFTS) if row[0] not in self.others),
            drafts_each=self.system.drafts_each,
            receipts=dict(map(tuple, await ingest("select id::text, state from operation"))),
            held=await _of_all(self.system, "select subscription, key, state, reason from held_event"),
            failed_jobs=await _of_all(self.system, "select kind, error from job where state = 'failed'"),
            holes=await _of_all(self.system, _HOLES),
            pending=await _sum_of_all(self.system, _PENDING),
            events=await _sum_of_all(self.system, _EVENTS) - self.events,
        )

    async def quiet(self) -> bool:
        """Whether nothing is on its way any more."""
        return not await _sum_of_all(self.system, _WAITING)

    def _by_document(self, found: Iterable[Any]) -> dict[str, Counter[str]]:
        made: dict[str, Counter[str]] = {}
        for document, id in found:
            if document not in self.others:
                made.setdefault(document, Counter())[id] += 1
        return made


async def _of_all(system: DocumentsSystem, statement: str) -> list[tuple[str, ...]]:
    found = await asyncio.gather(*(system.rows(name, statement) for name in SERVICES))
    return [(name, *row) for name, of_one in zip(SERVICES, found, strict=True) for row in of_one]


async def _sum_of_all(system: DocumentsSystem, statement: str) -> int:
    return sum(int(row[1]) for row in await _of_all(system, statement))
