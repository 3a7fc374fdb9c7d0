"""Idempotency-Key: the same request twice has one effect, and gets the same answer for 24 hours.

The answer is written in the transaction of the effect, so only what was committed is ever repeated. A lock
on the key is taken first, so of twins that run at once exactly one does; the others are told so.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from starlette.datastructures import UploadFile
from starlette.requests import Request

from kgl_servicekit.errors import BadRequest, Conflict, Invalid
from kgl_servicekit.http.exchange import Answer, Exchange

if TYPE_CHECKING:
    from kgl_servicekit.http.routing import ApiRoute

HEADER = "idempotency-key"
_KEY = re.compile(r"[\x20-\x7e]{1,255}", re.ASCII)
_CHUNK = 256 * 1024

LOCK = "select pg_try_advisory_xact_lock($1)"

# A statement of its own after the lock: only then does its snapshot hold what the last holder committed.
FIND = """
select body_hash, status, headers, body from idempotency_key
where scope_hash = $1 and created_at > now() - interval '24 hours'
"""

KEEP = """
insert into idempotency_key (scope_hash, workspace_id, body_hash, status, headers, body)
values ($1, $2, $3, $4, $5, $6)
on conflict (scope_hash) do update
set body_hash = excluded.body_hash, status = excluded.status, headers = excluded.headers, body = excluded.body,
    created_at = now()
"""


class KeyMalformed(BadRequest, code="idempotency_key_malformed"):
    """Idempotency-Key is 1 to 255 printable ASCII characters, once."""


class RequestInFlight(Conflict, code="request_in_flight"):
    """A request with this Idempotency-Key is running; repeat it after Retry-After."""

    retry_after: float


class KeyReused(Invalid, code="idempotency_key_reused"):
    """This Idempotency-Key was used for another request; take a new key for a new request."""


class AnswerNotKept(Conflict, code="answer_not_kept"):
    """This was done already with the same Idempotency-Key; its answer held a secret and was not kept."""


class Statements(Protocol):
    """What is used of a transaction."""

    async def fetchval(self, sql: str, *args: Any) -> Any: ...
    async def fetchrow(self, sql: str, *args: Any) -> Any: ...
    async def execute(self, sql: str, *args: Any) -> str: ...


@dataclass(frozen=True, slots=True)
class Claim:
    """One use of a key: who used it where (scope), for what (request), and whether the answer is kept."""

    scope: bytes
    request: bytes
    workspace: UUID | None
    secret: bool

    @property
    def lock(self) -> int:
        return int.from_bytes(self.scope[:8], "big", signed=True)


async def claim_of(request: Request, exchange: Exchange, route: "ApiRoute") -> Claim | None:
    """The claim that a request makes, or None when it names no key.

    Nobody's requests (of public routes) are not told apart, and answers that are no model are not ours to
    repeat: there the header is without effect.
    """
    keys = request.headers.getlist(HEADER)
    caller = exchange.caller
    if not keys or caller is None or (route.response_field is None and route.status_code != 204):
        return None
    if len(keys) > 1 or _KEY.fullmatch(keys[0]) is None:
        raise KeyMalformed
    workspace = caller.workspace_if_named
    scope = _digest(str(workspace), caller.principal, request.method, route.path, keys[0])
    return Claim(scope, await _request_hash(request), workspace, route.rules.secret_answer)


async def claim(tx: Statements, key: Claim) -> Answer | None:
    """Take the key for this transaction; the answer is what was answered before, if it was.

    Raises RequestInFlight, KeyReused, AnswerNotKept.
    """
    if not await tx.fetchval(LOCK, key.lock):
        raise RequestInFlight(retry_after=1)
    row = await tx.fetchrow(FIND, key.scope)
    if row is None:
        return None
    if row["body_hash"] != key.request:
        raise KeyReused
    if key.secret:
        raise AnswerNotKept
    return Answer(row["status"], row["headers"], row["body"])


async def keep(tx: Statements, key: Claim, answer: Answer) -> None:
    """Remember the answer, in the transaction of its effect."""
    body = b"" if key.secret else answer.body
    await tx.execute(KEEP, key.scope, key.workspace, key.request, answer.status, dict(answer.headers), body)


def _digest(*parts: str | bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.digest()


async def _request_hash(request: Request) -> bytes:
    """What makes a request another one: its path, query and body; of a form, its parts.

    A form is hashed by its parts, because clients draw a new boundary for each attempt.
    """
    place = (request.url.path, request.url.query)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {"multipart/form-data", "application/x-www-form-urlencoded"}:
        return _digest(*place, kind, await request.body())
    parts: list[str | bytes] = [*place, kind]
    for name, value in (await request.form()).multi_items():
        parts += [name, *(await _file_parts(value) if isinstance(value, UploadFile) else ["text", value])]
    return _digest(*parts)


async def _file_parts(upload: UploadFile) -> list[str | bytes]:
    digest = hashlib.sha256()
    await upload.seek(0)
    while chunk := await upload.read(_CHUNK):
        digest.update(chunk)
    await upload.seek(0)
    return ["file", upload.filename or "", upload.content_type or "", digest.digest()]
