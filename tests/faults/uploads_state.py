"""What the stores of the whole system hold of the documents of a run: databases, vectors, objects."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx

from kgl_contracts.rights import SERVICES
from kgl_servicekit.objects.s3 import S3Store
from kgl_servicekit.objects.s3_connection import S3Connection
from tests.stack.harness import Stack

COLLECTION, BUCKET = "KglChunk", "kgl-documents"
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One document in every store."""

    name: str
    operations: Sequence[str]
    chunk_count: int
    objects: Mapping[str, bool]
    indexed: bool
    chunks: Counter[str]
    vectors: Counter[str]
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadsState:
    """`documents` by id.

    operations   the state of each
    held         (service, subscription, key, state, reason)
    failed_jobs  (service, kind, error)
    holes        (service, topic, key) whose sequences are not contiguous
    pending      events that no bus has acknowledged
    """

    documents: Mapping[str, Stored]
    operations: Mapping[str, str] = field(default_factory=dict)
    held: Sequence[tuple[str, ...]] = ()
    failed_jobs: Sequence[tuple[str, ...]] = ()
    holes: Sequence[tuple[str, ...]] = ()
    pending: int = 0


class Stores:
    """The stores of a running system, read as they are, as their administrators."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def rows(self, service: str, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """From the database of one service."""
        password = self._stack.settings["KGL_POSTGRES_PASSWORD"]
        connection = await self._stack.connect(f"kgl_{service}", "postgres", password)
        try:
            found: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return found
        finally:
            await connection.close()

    async def events(self) -> int:
        """How many the five outboxes have had so far."""
        return sum([(await self.rows(name, "select count(*) from outbox_log"))[0][0] for name in SERVICES])

    async def collect(self, mark: str) -> UploadsState:
        """All of it."""
        return UploadsState(
            documents=await self._documents(mark),
            operations={str(row["id"]): row["state"] for row in await self.rows("ingest", "select * from operation")},
            held=await self._of_all("select subscription, key, state, reason from held_event"),
            failed_jobs=await self._of_all("select kind, error from job where state = 'failed'"),
            holes=await self._of_all(_HOLES),
            pending=sum(int(row[1]) for row in await self._of_all("select count(*)::text from outbox_pending")),
        )

    async def _of_all(self, statement: str) -> list[tuple[str, ...]]:
        return [(name, *row) for name in SERVICES for row in await self.rows(name, statement)]

    async def _documents(self, mark: str) -> dict[str, Stored]:
        known = await self.rows("ingest", _DOCUMENTS, f"{mark}-%")
        ids = [row["id"] for row in known]
        operations, chunks = defaultdict[str, list[str]](list), defaultdict[str, Counter[str]](Counter)
        for row in await self.rows("ingest", "select id, subject from operation where kind = 'ingest.document'"):
            operations[row["subject"]].append(str(row["id"]))
        for row in await self.rows("graph", "select id, document_id from chunk where document_id = any($1)", ids):
            chunks[str(row["document_id"])][str(row["id"])] += 1
        indexed = {
            row[0] for row in await self.rows("graph", "select document_id from indexed_document where version = 1")
        }
        items = Counter(
            row[0]
            for row in await self.rows("content", "select document_id from item where document_id = any($1)", ids)
        )
        vectors, objects = await self._vectors(), await self._objects()
        return {
            str(row["id"]): Stored(
                name=row["name"],
                operations=operations[str(row["id"])],
                chunk_count=row["chunk_count"] or 0,
                objects={key: key in objects for key in row["keys"] if key is not None},
                indexed=row["id"] in indexed,
                chunks=chunks[str(row["id"])],
                vectors=vectors[str(row["id"])],
                items=items[row["id"]],
            )
            for row in known
        }

    async def _vectors(self) -> defaultdict[str, Counter[str]]:
        """The chunks of each document that have a vector."""
        found = defaultdict[str, Counter[str]](Counter)
        headers = {"Authorization": f"Bearer {self._stack.settings['KGL_WEAVIATE_API_KEY']}"}
        base = f"http://{await self._stack.address('weaviate')}:8080"
        asked = {"class": COLLECTION, "tenant": self._stack.credentials.workspace_id, "limit": str(_PAGE), "after": ""}
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=30, trust_env=False) as http:
            while True:
                answer = await http.get("/v1/objects", params=asked)
                assert answer.status_code == 200, answer.text
                page = answer.json()["objects"]
                if not page:
                    return found
                for each in page:
                    of = each["properties"]
                    found[of["document_id"]][of["chunk_id"]] += 1
                asked["after"] = page[-1]["id"]

    async def _objects(self) -> set[str]:
        connection = S3Connection(
            url=f"http://{await self._stack.address('minio')}:9000",
            bucket=BUCKET,
            access_key="admin",
            secret_key=self._stack.settings["KGL_S3_ADMIN_PASSWORD"],
            region="us-east-1",
            public="",
        )
        try:
            return {entry.key async for entry in S3Store(connection).listed("ingest")}
        finally:
            await connection.close()


_DOCUMENTS = """
select d.id, d.name, v.chunk_count, array[v.object_key, v.chunks_object, v.text_object] as keys
from document d join document_version v on v.workspace_id = d.workspace_id and v.document_id = d.id
where d.name like $1 and d.deleted_at is null
"""
_HOLES = """
select topic, key from outbox_log where sequence is not null
group by topic, key having count(*) <> max(sequence) - min(sequence) + 1
"""
