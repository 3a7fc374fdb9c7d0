"""The sample service behind `benchmarks.http`, made of the HTTP kit as the five services are: notes.

`python -m benchmarks.served.service <socket> <database url>` serves its API on an inherited socket.
"""

import sys
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from benchmarks.served.serving import serve
from kgl_contracts.ingest import DocumentDeleted
from kgl_servicekit.bus.postgres import PostgresBus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import NotFound
from kgl_servicekit.http import ApiRouter, Page, PageParams, Reply, Run, page
from kgl_servicekit.logs import configure_logging
from kgl_servicekit.service import Service
from kgl_servicekit.settings import ServiceSettings
from kgl_servicekit.testing.counter import MIGRATIONS

POOL_SIZE = 8
_COLUMNS = "id, title, body, created_at"

router = ApiRouter(prefix="/notes", tags=["notes"])


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewNote(_Model):
    """A title and a text."""

    title: str = Field(min_length=1, max_length=300)
    body: str = Field(min_length=1, max_length=100_000)


class Note(_Model):
    """A note as it is read."""

    id: UUID
    title: str
    body: str
    created_at: datetime


class NoteNotFound(NotFound, code="note_not_found"):
    """There is no such note in this workspace."""


class _ListNotes(_Model):
    limit: int
    before: tuple[datetime, UUID] | None


@router.get("/{note_id}", permission="documents:read", problems=[NoteNotFound])
async def get_note(note_id: UUID, run: Run) -> Note:
    """One note."""
    return await run(_found, note_id)


@router.get("", permission="documents:read")
async def get_notes(window: PageParams, run: Run) -> Page[Note]:
    """Notes, newest first."""
    before = None
    if window.position is not None:
        before = (datetime.fromisoformat(window.position[0]), UUID(window.position[1]))
    found = await run(_listed, _ListNotes(limit=window.fetch, before=before))
    return page(found, window.limit, lambda note: [note.created_at.isoformat(), str(note.id)])


@router.post("", status_code=201, permission="documents:write")
async def create_note(body: NewNote, run: Run) -> Note:
    """Write a note, and tell."""
    return await run(_write, body, reply=lambda note: Reply(headers={"Location": f"/sample/v1/notes/{note.id}"}))


async def _found(tx: Transaction, note_id: UUID) -> Note:
    row = await tx.fetchrow(f"select {_COLUMNS} from note where workspace_id = $1 and id = $2", tx.workspace, note_id)
    if row is None:
        raise NoteNotFound
    return Note(**row)


async def _listed(tx: Transaction, asked: _ListNotes) -> list[Note]:
    rows = await tx.fetch(
        f"""select {_COLUMNS} from note where workspace_id = $1
            and ($2::timestamptz is null or (created_at, id) < ($2, $3::uuid))
            order by created_at desc, id desc limit $4""",
        tx.workspace,
        *(asked.before or (None, None)),
        asked.limit,
    )
    return [Note(**row) for row in rows]


async def _write(tx: Transaction, new: NewNote) -> Note:
    note = Note(id=tx.new_id(), title=new.title, body=new.body, created_at=tx.now)
    await tx.execute(
        f"insert into note (workspace_id, {_COLUMNS}) values ($1, $2, $3, $4, $5)",
        tx.workspace,
        note.id,
        note.title,
        note.body,
        note.created_at,
    )
    await tx.emit(DocumentDeleted(document_id=note.id, version=1))
    return note


def build(database_url: str) -> Service:
    """The service, as in production but for the rate limit, which nothing here is to reach."""
    settings = ServiceSettings(
        database_url=SecretStr(database_url),
        bus_url=SecretStr(database_url),
        auth_url="http://127.0.0.1:1",
        pool_size=POOL_SIZE,
        rate_limit_per_minute=100_000_000,
    )
    return Service(
        name="sample",
        settings=settings,
        database=Database(database_url, service="sample", pool_size=POOL_SIZE),
        bus=PostgresBus(database_url, worker="sample"),
        migrations=MIGRATIONS,
        routers=[("/sample/v1", router)],
    )


if __name__ == "__main__":
    configure_logging("INFO", "sample")
    serve(build(sys.argv[2]).api(), int(sys.argv[1]))
