"""The limit of `benchmarks.http`: what has to be done and no more, on bare ASGI, asyncpg and orjson.

The same statements in the same transactions over as many round trips as the sample service has; nobody is
asked who they are, nothing is validated, logged, counted or tagged.
`python -m benchmarks.served.limit <socket> <database url>` serves it.
"""

import base64
import sys
import zlib
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import asyncpg
import orjson
import uuid_utils

from benchmarks.served.serving import serve

POOL_SIZE = 8
NOTES = "/sample/v1/notes"

_READ = "select id, title, body, created_at from note where workspace_id = $1 and id = $2"
_LIST = """
select id, title, body, created_at from note where workspace_id = $1
and ($2::timestamptz is null or (created_at, id) < ($2, $3::uuid))
order by created_at desc, id desc limit $4
"""
_INSERT = "insert into note (workspace_id, id, title, body, created_at) values ($1, $2, $3, $4, $5)"
_EMIT = """
with drawn as (
    insert into outbox_key as k (topic, key, last) values ($1, $2, 1)
    on conflict (topic, key) do update set last = k.last + 1 returning k.last
), logged as (
    insert into outbox_log (event_id, topic, key, type, sequence, epoch, occurred_at, workspace_id,
                            causation_id, actor, data)
    select $3, $1, $2, $4, d.last, s.epoch, $5, $6, $7, $8, $9 from drawn d, source s returning id, logged_at
)
insert into outbox_pending (id, shard, logged_at) select id, $10, logged_at from logged
"""


class Limit:
    """The application; `workspace` comes in the header that both sides get."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._pool: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        workspace = next(value.decode() for name, value in scope["headers"] if name == b"kgl-workspace")
        path = scope["path"]
        status = 200
        if scope["method"] == "POST":
            status, body = 201, await self._create(workspace, orjson.loads(await _body(receive)))
        elif len(path) > len(NOTES):
            body = await self._get(workspace, UUID(path[len(NOTES) + 1 :]))
        else:
            body = await self._list(workspace, dict(parse_qsl(scope["query_string"].decode())))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        self._pool = await asyncpg.create_pool(self._database_url, min_size=1, max_size=POOL_SIZE, reset=_keep)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._pool.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _get(self, workspace: str, note: UUID) -> bytes:
        async with self._pool.acquire() as connection:
            await connection.execute(f"begin; set local kgl.workspaces = '{workspace}'")
            row = await connection.fetchrow(_READ, UUID(workspace), note)
            await connection.execute("commit")
        found: bytes = orjson.dumps(dict(row), default=str)
        return found

    async def _list(self, workspace: str, query: dict[str, str]) -> bytes:
        limit = int(query.get("limit", 50))
        before = orjson.loads(base64.urlsafe_b64decode(query["cursor"] + "==")) if "cursor" in query else [None, None]
        async with self._pool.acquire() as connection:
            await connection.execute(f"begin; set local kgl.workspaces = '{workspace}'")
            rows = await connection.fetch(_LIST, UUID(workspace), *before, limit + 1)
            await connection.execute("commit")
        shown = [dict(row) for row in rows[:limit]]
        last = [shown[-1]["created_at"].isoformat(), str(shown[-1]["id"])]
        cursor = base64.urlsafe_b64encode(orjson.dumps(last)).rstrip(b"=").decode() if len(rows) > limit else None
        listed: bytes = orjson.dumps({"items": shown, "next": cursor}, default=str)
        return listed

    async def _create(self, workspace: str, new: dict[str, str]) -> bytes:
        note, now, scope = UUID(bytes=uuid_utils.uuid7().bytes), datetime.now(UTC), UUID(workspace)
        key, event = str(note), UUID(bytes=uuid_utils.uuid7().bytes)
        data = orjson.dumps({"document_id": key, "version": 1})
        async with self._pool.acquire() as connection:
            await connection.execute(f"begin; set local kgl.workspaces = '{workspace}'")
            await connection.execute(_INSERT, scope, note, new["title"], new["body"], now)
            topic, kind, shard = "kgl.documents", "ingest.document.deleted.v1", zlib.crc32(key.encode()) % 16
            await connection.execute(_EMIT, topic, key, event, kind, now, scope, event, "key:limit", data, shard)
            await connection.execute("commit")
        made: bytes = orjson.dumps({"id": key, "title": new["title"], "body": new["body"], "created_at": now})
        return made


async def _body(receive: Any) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


async def _keep(connection: Any) -> None:
    """No reset between requests, as in our pool."""


if __name__ == "__main__":
    serve(Limit(sys.argv[2]), int(sys.argv[1]))
