"""/live/v1: what happens in a workspace, as it happens, over a WebSocket that a one-time ticket opens."""

import asyncio
import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict
from starlette.websockets import WebSocket, WebSocketDisconnect

from kgl_publish.db import feeds
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.http import ApiRouter, Caller, Run
from kgl_servicekit.http.app import Kit
from kgl_servicekit.waiting import wait_until_set

router = ApiRouter(tags=["live"])

_TICKET_SECONDS = 30
_BATCH = 200
_LARGEST_MESSAGE = 64 * 1024
_SLOW_SECONDS = 10.0
_POLICY, _TRY_LATER, _SESSION_OVER = 1008, 1013, 4401


class Ticket(BaseModel):
    """A right to connect once, within 30 seconds: `/live/v1?ticket=...`."""

    model_config = ConfigDict(frozen=True)

    ticket: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class _NewTicket:
    sha256: str
    principal: str
    expires_at: datetime
    session_ends_at: datetime | None


@router.post("/tickets", status_code=201, permission="live:read", secret_answer=True)
async def create_ticket(caller: Caller, run: Run) -> Ticket:
    """Get a ticket for one live connection to this workspace."""
    secret = secrets.token_urlsafe(32)
    expires_at = datetime.now(UTC) + timedelta(seconds=_TICKET_SECONDS)
    ticket = Ticket(ticket=f"{caller.workspace_id.hex}.{secret}", expires_at=expires_at)
    new = _NewTicket(_hash(secret), caller.principal, expires_at, caller.token_expires_at)

    async def add(tx: Transaction, new: _NewTicket) -> Ticket:
        await feeds.add_ticket(tx, new.sha256, new.principal, new.expires_at, new.session_ends_at)
        return ticket

    return await run(add, new)


@router.websocket("")
async def live(socket: WebSocket, ticket: str = "", after: int | None = None) -> None:
    """Send the workspace's events from now on, or those after a number; closed when the session ends."""
    database: Database = socket.app.state.database
    kit: Kit = socket.app.state.kit
    origin = socket.headers.get("origin")
    workspace, _, secret = ticket.partition(".")
    if (origin is not None and origin.lower() not in kit.origins) or not _is_hex(workspace):
        await socket.close(_POLICY)
        return
    scope = UUID(workspace)
    used = await database.run(scope, feeds.use_ticket, _hash(secret))
    if used is None:
        await socket.close(_POLICY)
        return
    await socket.accept()
    position = await database.run(scope, _last, None) if after is None else after
    sending = asyncio.create_task(_send(socket, database, scope, position, used["session_ends_at"]))
    receiving = asyncio.create_task(_receive(socket))
    try:
        await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, receiving):
            task.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)


async def _send(
    socket: WebSocket, database: Database, workspace: UUID, position: int, ends_at: datetime | None
) -> None:
    """Send until the session ends; a client that does not read for 10 seconds is let go."""
    woken = database.signals.subscribe(feeds.LIVE)
    try:
        while ends_at is None or datetime.now(UTC) < ends_at:
            woken.clear()
            rows = await database.run(workspace, _after, position)
            for row in rows:
                message = {"number": row["number"], "type": row["type"], "data": row["data"], "at": row["at"]}
                async with asyncio.timeout(_SLOW_SECONDS):
                    await socket.send_text(orjson.dumps(message).decode())
                position = row["number"]
            if len(rows) < _BATCH:
                await wait_until_set(woken, 5.0)
        await socket.close(_SESSION_OVER)
    except TimeoutError:
        await socket.close(_TRY_LATER)
    finally:
        database.signals.unsubscribe(feeds.LIVE, woken)


async def _receive(socket: WebSocket) -> None:
    """Notice that the client has gone; it has nothing to say."""
    try:
        while True:
            if len(await socket.receive_text()) > _LARGEST_MESSAGE:
                await socket.close(1009)
                return
    except (WebSocketDisconnect, KeyError):
        return


async def _last(tx: Transaction, _: None) -> int:
    return await feeds.last_live(tx)


async def _after(tx: Transaction, number: int) -> list[dict[str, Any]]:
    return [dict(row) for row in await feeds.live_after(tx, number, _BATCH)]


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _is_hex(text: str) -> bool:
    return len(text) == 32 and all(character in "0123456789abcdef" for character in text)
