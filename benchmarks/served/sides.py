"""Both sides of the comparison: a database each, a server each, and how one is measured."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from benchmarks.served.load import Load, Measured
from kgl_servicekit.database.core_migration import protect
from kgl_servicekit.identity.credential import ApiKey
from kgl_servicekit.testing.counter import MIGRATIONS
from kgl_servicekit.testing.postgres import PostgresForTests, Roles

CONNECTIONS = 16
NOTES = 2000
_PATIENCE = 60

_TABLE = """
create table note (workspace_id uuid not null, id uuid not null, title text not null, body text not null,
                   created_at timestamptz not null, primary key (id));
create index on note (workspace_id, created_at desc, id desc)
"""
_FILL = """
insert into note select $1, gen_random_uuid(), 'Note ' || n, repeat('What a note says. ', 8),
                        now() - make_interval(secs => n) from generate_series(1, $2::int) n returning id
"""
_REPLICATE = """
insert into identity_replica (key_id, type, sequence, workspace_id, state) values
('workspace:' || $1::uuid, 'identity.workspace.changed.v1', 1, $1, '{"deleted": false}'),
('key:' || $2::text, 'identity.key.changed.v1', 1, $1, jsonb_build_object(
    'workspace_id', $1::uuid, 'secret_sha256', $3::text, 'permissions', array['documents:read', 'documents:write'],
    'module', null, 'expires_at', null, 'revoked', false)),
('clock', 'identity.ticked.v1', 1, null, '{}')
"""
_TICK = """
update identity_replica set state = jsonb_build_object('at', clock_timestamp()), at = clock_timestamp()
where key_id = 'clock'
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of request, and the status that answers it."""

    name: str
    requests: tuple[str, ...]
    status: int


@dataclass(frozen=True, slots=True)
class Side:
    """A server that is up, and the notes that it has."""

    port: int
    notes: tuple[UUID, ...]

    async def measure(self, case: Case, seconds: float, *, rate: float | None = None) -> Measured:
        """Load it for a while; RuntimeError when an answer is not the one that the case expects."""
        load = Load(
            port=self.port,
            requests=case.requests,
            status=case.status,
            connections=CONNECTIONS,
            seconds=seconds,
            rate=rate,
        )
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.served.load", stdin=pipe, stdout=pipe
        )
        async with asyncio.timeout(seconds + _PATIENCE):
            written, _ = await process.communicate(json.dumps(asdict(load)).encode())
        measured = Measured(**json.loads(written))
        if measured.wrong:
            raise RuntimeError(f"{case.name}: {measured.wrong} answers were wrong")
        return measured


@asynccontextmanager
async def served(
    module: str, postgres: PostgresForTests, workspace: UUID, key: ApiKey, log: Path
) -> AsyncIterator[Side]:
    """A server of `benchmarks.served.<module>` with a database of its own; its log lines go to a file."""
    async with postgres.database(MIGRATIONS) as roles:
        notes = await _prepare(roles, workspace, key)
        listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        with listening, log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                f"benchmarks.served.{module}",
                str(listening.fileno()),
                roles.service,
                pass_fds=[listening.fileno()],
                stderr=errors,
                env=os.environ | {"KGL_ENV": "test"},
            )
            ticking = asyncio.create_task(_tick(roles))
            try:
                yield Side(listening.getsockname()[1], notes)
            finally:
                ticking.cancel()
                process.terminate()
                await process.wait()


class _Statements:
    """Takes down what a migration would execute."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def execute(self, sqltext: str) -> None:
        self.made.append(sqltext)

    def get_bind(self) -> Any:
        raise NotImplementedError


async def _prepare(roles: Roles, workspace: UUID, key: ApiKey) -> tuple[UUID, ...]:
    """Notes, and the replica of the identity that asks; answers the notes' ids."""
    connection = await asyncpg.connect(roles.owner)
    policy = _Statements()
    protect(policy, "note")
    try:
        for statement in (_TABLE, *policy.made):
            await connection.execute(statement)
        filled = await connection.fetch(_FILL, workspace, NOTES)
        await connection.execute(_REPLICATE, workspace, key.id, key.secret_sha256)
        await connection.execute("analyze")
    finally:
        await connection.close()
    return tuple(row["id"] for row in filled)


async def _tick(roles: Roles) -> None:
    """Keep the replica fresh, as the ticks of auth do."""
    connection = await asyncpg.connect(roles.owner)
    try:
        while True:
            await connection.execute(_TICK)
            await asyncio.sleep(1)
    finally:
        connection.terminate()
