"""The two transports as a loop written by hand uses them: asyncpg, or aiokafka, and nothing around them."""

import asyncio
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from kgl_contracts.topics import DOCUMENTS, GRAPH
from kgl_servicekit.bus import postgres_schema as sql
from kgl_servicekit.bus.kafka_connection import KafkaConnection

BATCH = 500


class Message(NamedTuple):
    """One record, as raw as it comes."""

    key: str
    headers: dict[str, str]
    value: bytes
    offset: int


class RawBus(Protocol):
    """Polls the source topic from its beginning, and sends to the next one."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def poll(self) -> list[tuple[int, list[Message]]]: ...
    async def send(self, records: Sequence[tuple[str, dict[str, str], bytes]]) -> None: ...


class RawPostgres:
    """The tables of the postgres transport, read and written directly."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._next = dict.fromkeys(range(DOCUMENTS.partitions), 0)

    async def start(self) -> None:
        self._reading: Any = await asyncpg.connect(self._dsn)
        self._sending: Any = await asyncpg.connect(self._dsn)

    async def stop(self) -> None:
        await self._reading.close()
        await self._sending.close()

    async def poll(self) -> list[tuple[int, list[Message]]]:
        rows = await self._reading.fetch(sql.READ, DOCUMENTS.name, list(self._next), list(self._next.values()), BATCH)
        found: dict[int, list[Message]] = {}
        for row in rows:
            message = Message(row["key"], orjson.loads(row["headers"]), row["value"], row["offset"])
            found.setdefault(row["partition"], []).append(message)
        for partition, messages in found.items():
            self._next[partition] = messages[-1].offset + 1
        if not found:
            await asyncio.sleep(0.005)
        return list(found.items())

    async def send(self, records: Sequence[tuple[str, dict[str, str], bytes]]) -> None:
        keys = [key for key, _, _ in records]
        await self._sending.fetch(
            sql.SEND,
            [GRAPH.name] * len(records),
            [zlib.crc32(key.encode()) % GRAPH.partitions for key in keys],
            keys,
            [orjson.dumps(headers) for _, headers, _ in records],
            [value for _, _, value in records],
        )


class RawKafka:
    """aiokafka as its documentation shows it, with the durability of the runtime."""

    def __init__(self, connection: KafkaConnection, prefix: str = "") -> None:
        self._options = connection.for_aiokafka()
        self._source, self._target = prefix + DOCUMENTS.name, prefix + GRAPH.name

    async def start(self) -> None:
        places = [TopicPartition(self._source, number) for number in range(DOCUMENTS.partitions)]
        self._consumer: Any = AIOKafkaConsumer(**self._options, enable_auto_commit=False, fetch_max_wait_ms=50)
        await self._consumer.start()
        self._consumer.assign(places)
        await self._consumer.seek_to_beginning(*places)
        self._producer: Any = AIOKafkaProducer(
            **self._options, enable_idempotence=True, acks="all", max_batch_size=256 * 1024
        )
        await self._producer.start()

    async def stop(self) -> None:
        await self._consumer.stop()
        await self._producer.stop()

    async def poll(self) -> list[tuple[int, list[Message]]]:
        found = await self._consumer.getmany(timeout_ms=1000, max_records=BATCH * DOCUMENTS.partitions)
        return [
            (
                place.partition,
                [
                    Message(r.key.decode(), {name: value.decode() for name, value in r.headers}, r.value, r.offset)
                    for r in records
                ],
            )
            for place, records in found.items()
        ]

    async def send(self, records: Sequence[tuple[str, dict[str, str], bytes]]) -> None:
        sent = [
            await self._producer.send(
                self._target, value, key.encode(), headers=[(name, text.encode()) for name, text in headers.items()]
            )
            for key, headers, value in records
        ]
        await asyncio.gather(*sent)
