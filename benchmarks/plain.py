"""What most would write: one FastStream message, one SQLModel session, one publish."""

import asyncio
import time
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
from faststream import Context
from faststream.kafka import KafkaBroker
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import Field, SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from kgl_contracts.topics import DOCUMENTS, GRAPH
from kgl_servicekit.testing.kafka import mock_cluster
from kgl_servicekit.testing.postgres import PostgresForTests

_URL = "postgresql+asyncpg://"


class PlainEffect(SQLModel, table=True):
    """The effect, as a model."""

    __tablename__ = "plain_effect"

    id: int | None = Field(default=None, primary_key=True)
    document_id: UUID
    version: int


class Deleted(BaseModel):
    """The message."""

    document_id: UUID
    version: int


async def plain_rate(postgres: PostgresForTests, events: int) -> float:
    """Events per second, without any of what the durable hop promises."""
    async with postgres.database() as roles:
        owner = await asyncpg.connect(roles.owner)
        await owner.execute("create table plain_effect (id serial primary key, document_id uuid, version int)")
        await owner.close()
        engine = create_async_engine(_URL, async_creator=lambda: asyncpg.connect(roles.service))
        try:
            with mock_cluster((DOCUMENTS, GRAPH)) as cluster:
                return await _consumed(KafkaBroker(cluster.bootstrap, logger=None), engine, events)
        finally:
            await engine.dispose()


async def _consumed(broker: KafkaBroker, engine: object, events: int) -> float:
    left = events
    all_done = asyncio.Event()

    @broker.subscriber(DOCUMENTS.name, group_id="plain", auto_offset_reset="earliest")
    @broker.publisher(GRAPH.name)
    async def hop(message: Deleted, key: bytes = Context("message.raw_message.key")) -> dict[str, str]:
        nonlocal left
        async with AsyncSession(engine) as session:  # type: ignore[arg-type]
            session.add(PlainEffect(document_id=message.document_id, version=message.version))
            await session.commit()
        left -= 1
        if left == 0:
            all_done.set()
        return {"document_id": str(message.document_id), "at": datetime.now(UTC).isoformat(), "key": key.decode()}

    async with broker:
        for number in range(events):
            message = Deleted(document_id=UUID(int=number), version=1)
            await broker.publish(message, DOCUMENTS.name, key=str(number).encode(), no_confirm=True)
        start = time.perf_counter()
        await broker.start()
        await asyncio.wait_for(all_done.wait(), 120)
        return events / (time.perf_counter() - start)
