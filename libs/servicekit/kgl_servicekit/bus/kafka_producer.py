"""The producer of the Kafka transport.

What one call sends goes out as one batch for each partition, all at once; what does not fit follows when
these are acknowledged. So nothing overtakes a batch that failed, and no time is lost by lingering. The
partition of a key is murmur2(key) mod partitions, fixed for life; the Java client has the same.
"""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTimestampError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    ProducerClosed,
    RecordListTooLargeError,
    UnsupportedForMessageFormatError,
)
from aiokafka.partitioner import DefaultPartitioner

from kgl_servicekit.bus.kafka_connection import LOST, outages
from kgl_servicekit.bus.port import Ack, Record, SendFailed
from kgl_servicekit.errors import Unavailable

if TYPE_CHECKING:
    from kgl_servicekit.bus.kafka import KafkaBus

# not what an operator can mend, as a missing permission
_REFUSED_FOR_GOOD = (
    InvalidTimestampError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    UnsupportedForMessageFormatError,
)
_BATCH_BYTES = 900_000  # below 1 MiB, what a broker takes as one batch by default
_REQUEST_MS = 10_000
_partition_of = DefaultPartitioner()


@dataclass(slots=True)
class _Batch:
    """Records of one partition on their way, by their place in the call."""

    topic: str
    partition: int
    builder: Any
    places: list[int] = field(default_factory=list)


class KafkaProducer:
    """Sends in order, idempotently, to all in-sync replicas. An offset of -1 is one that the broker forgot."""

    def __init__(self, bus: "KafkaBus") -> None:
        self._bus = bus
        self._client: Any = None

    async def start(self) -> None:
        """Connect; Unavailable if that takes longer than the bus allows."""
        client = AIOKafkaProducer(
            **self._bus.connection.for_aiokafka(),
            client_id=self._bus.worker,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=_BATCH_BYTES,
            request_timeout_ms=_REQUEST_MS,
        )
        try:
            with outages():
                async with asyncio.timeout(self._bus.limit):
                    await client.start()
        except BaseException:
            await self._bus.close(client.stop())
            raise
        self._client = client

    async def stop(self) -> None:
        """Disconnect, within seconds."""
        client, self._client = self._client, None
        if client is not None:
            await self._bus.close(client.stop())

    async def send(self, records: Sequence[Record]) -> list[Ack]:
        acks: list[Ack | None] = [None] * len(records)
        left = list(range(len(records)))
        try:
            async with asyncio.timeout(self._bus.limit):
                while left:
                    left = await self._send_batches(records, left, acks)
        except _REFUSED_FOR_GOOD as refused:
            self._abandon()
            if len(records) == 1:
                raise SendFailed(f"Kafka refuses this: {refused!r}", retryable=False) from refused
            await self._send_one_by_one(records, acks)
        except LOST as lost:
            self._abandon()
            raise SendFailed(f"Kafka did not take all: {lost!r}", _prefix(acks)) from lost
        except BaseException:
            self._abandon()
            raise
        return _prefix(acks)

    async def _send_one_by_one(self, records: Sequence[Record], acks: list[Ack | None]) -> None:
        """Find the record for which a broker refused its batch; that producer has lost count, so by new ones."""
        for place, record in enumerate(records):
            if acks[place] is not None:
                continue
            try:
                if self._client is None:
                    await self.start()
                acks[place] = (await self.send([record]))[0]
            except Unavailable as lost:
                raise SendFailed(str(lost), _prefix(acks)) from lost
            except SendFailed as failed:
                raise SendFailed(str(failed), _prefix(acks), retryable=failed.retryable) from failed

    async def _send_batches(
        self, records: Sequence[Record], wanted: Sequence[int], acks: list[Ack | None]
    ) -> list[int]:
        """Send the next batch of each partition; the answer is the places of what did not fit."""
        if self._client is None:
            raise ProducerClosed
        batches, left = await self._fill(records, wanted)
        sent = {}
        try:
            for batch in batches:
                topic = self._bus.name_of(batch.topic)
                sent[await self._client.send_batch(batch.builder, topic, partition=batch.partition)] = batch
            done, _ = await asyncio.wait(sent, return_when=asyncio.FIRST_EXCEPTION)
            failures = [future.exception() for future in done if future.exception() is not None]
            for future in done:
                if future.exception() is None:
                    _acknowledge(sent[future], future.result().offset, acks)
            if failures:
                raise failures[0]
        finally:
            for future in sent:
                future.cancel()
        return left

    async def _fill(self, records: Sequence[Record], wanted: Sequence[int]) -> tuple[list[_Batch], list[int]]:
        batches: dict[tuple[str, int], _Batch] = {}
        partitions: dict[str, list[int]] = {}
        left: list[int] = []
        for place in wanted:
            record = records[place]
            topic, key = record.topic, record.key.encode()
            if topic not in partitions:
                partitions[topic] = sorted(await self._client.partitions_for(self._bus.name_of(topic)))
            partition = _partition_of(key, partitions[topic], partitions[topic])
            batch = batches.get((topic, partition))
            if batch is None:
                batch = batches[topic, partition] = _Batch(topic, partition, self._client.create_batch())
            headers = [(name, value.encode()) for name, value in record.headers.items()]
            # a batch that was once full takes no more, however small
            if batch.builder.append(timestamp=None, key=key, value=record.value, headers=headers) is None:
                left.append(place)
            else:
                batch.places.append(place)
        return list(batches.values()), left

    def _abandon(self) -> None:
        """Send nothing more from now on, and let what is on its way end in the background."""
        client, self._client = self._client, None
        if client is not None:
            client._sender.sender_task.cancel()
            self._bus.close_later(_end(client))


async def _end(client: Any) -> None:
    """Close a client that failed; by itself it would first try, for ever, to send the rest."""
    await asyncio.wait({client._sender.sender_task})
    client._message_accumulator.fail_all(ProducerClosed())
    await client.stop()


def _acknowledge(batch: _Batch, first: int, acks: list[Ack | None]) -> None:
    for number, place in enumerate(batch.places):
        acks[place] = Ack(batch.topic, batch.partition, first + number if first >= 0 else -1)


def _prefix(acks: Sequence[Ack | None]) -> list[Ack]:
    """The acknowledgements before the first that is missing."""
    return [ack for ack in itertools.takewhile(lambda ack: ack is not None, acks) if ack is not None]
