"""A module's events on Kafka: FastStream carries the records, this runtime decides what is done with them.

FastStream's acknowledgement policies each lose or block something, so every subscriber is MANUAL, and nothing
but this runtime commits: one record at a time, after its results or its dead letter are acknowledged, by its
explicit offset. Whatever goes wrong around that ends the session, and a new one starts at the committed
offset with a new producer; an idempotent producer that has lost its place does not find it again.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaMessage
from faststream.kafka.security import parse_security
from faststream.security import BaseSecurity
from loguru import logger

from kgl_client.events.kafka_records import read_any_name
from kgl_client.events.module import EventModule
from kgl_client.events.results import Result
from kgl_client.events.settling import DeadLetter, Incoming, Retry, settle
from kgl_contracts.topics import dead_letter_topic

Place = Literal["received", "handled", "sent", "acknowledged", "committed"]
DEAD = "dead_"
_LONGEST_PAUSE = 30.0
_LARGEST_DEAD = 900_000  # a broker takes 1 MB; of what is larger, the dead letter says only where it is
_LOST = (KafkaError, OSError)
_NOT_OURS = (CommitFailedError, IllegalStateError)
_NOT_ALLOWED = (GroupAuthorizationFailedError, TopicAuthorizationFailedError)


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """What may differ between clusters. Times are seconds.

    longest_handling  of one event with all its retries; a process that takes longer loses its partitions
    session_timeout   after which a process that died is replaced
    prefix            stands before the names of topics and groups
    """

    security: BaseSecurity | None = None
    prefix: str = ""
    longest_handling: float = 900.0
    session_timeout: float = 10.0
    graceful_stop: float = 20.0
    retry: Retry = field(default_factory=Retry)


def text_headers(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    """Headers as text. Null ones are left out and other bytes shown escaped, where FastStream would drop the record."""
    return {name: value.decode(errors="backslashreplace") for name, value in headers if value is not None}


class KafkaEvents:
    """Runs a module's handlers on Kafka; `brokers` is host:port, several with commas.

    One process handles one event at a time, in order for each partition; run more processes for more. Its
    consumer group is the module's name. A record that cannot be handled goes to the module's own topic
    `x.<module>.dead-letters`; `redrive` takes it from there.
    """

    def __init__(
        self,
        module: EventModule,
        brokers: str,
        options: KafkaOptions = KafkaOptions(),
        *,
        passing: Callable[[Place], None] = lambda place: None,
    ) -> None:
        self._module = module
        self._brokers = brokers
        self._options = options
        self._passing = passing

    async def work(self) -> None:
        """Handle events until cancelled; outages of the cluster are waited out."""
        outages = 0
        while True:
            session = self.session()
            try:
                await session.run()
            except _LOST as lost:
                outages = 0 if session.settled else outages + 1
                logger.bind(module=self._module.name, error=repr(lost)).warning("module.session_lost")
                await asyncio.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.5 * 2**outages)))  # noqa: S311

    async def redrive(self) -> int:
        """Handle the dead letters that are there now once more; the answer is how many.

        Their results have the ids that they would have had at first. What fails again is a new dead letter.
        """
        return await self.session().redrive()

    def session(self) -> "Session":
        """One session, not started."""
        return Session(self._module, self._brokers, self._options, self._passing)


class Session:
    """A consumer and a producer that live and end together. `settled` counts the records that it is done with."""

    def __init__(
        self, module: EventModule, brokers: str, options: KafkaOptions, passing: Callable[[Place], None]
    ) -> None:
        self._module = module
        self._brokers = brokers
        self._options = options
        self._passing = passing
        self._group = f"{options.prefix}{module.name}"
        self._results = f"{options.prefix}{module.results_topic.name}"
        self._dead_letters = f"{options.prefix}{dead_letter_topic(module.name)}"
        self._broken: asyncio.Future[None] | None = None
        self.settled = 0
        self.broker = KafkaBroker(
            brokers,
            client_id=module.name,
            acks="all",
            enable_idempotence=True,
            allow_auto_create_topics=False,  # a topic made on the way would have the wrong number of partitions
            apply_types=False,
            graceful_timeout=options.graceful_stop,
            security=options.security,
            logger=None,
        )
        self._subscriber = self.broker.subscriber(
            *(f"{options.prefix}{topic}" for topic in module.topics),
            group_id=self._group,
            ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="earliest",
            no_reply=True,  # else a record with the header reply_to would name a topic for us to write to
            max_poll_interval_ms=int(options.longest_handling * 1000),
            session_timeout_ms=int(options.session_timeout * 1000),
            heartbeat_interval_ms=int(options.session_timeout * 1000 / 5),
            parser=self._parse,
            decoder=_whole_record,
        )
        self._subscriber.get_msg = self._next  # type: ignore[method-assign]
        self._subscriber(self._receive)

    async def run(self) -> None:
        """Handle events until cancelled; raises what broke the session."""
        self._broken = asyncio.get_running_loop().create_future()
        try:
            await self.broker.start()
            await self._broken
        finally:
            await self.broker.stop()

    async def redrive(self) -> int:
        """Handle all dead letters that are there at the start, each once."""
        consumer = AIOKafkaConsumer(
            self._dead_letters,
            bootstrap_servers=self._brokers,
            group_id=f"{self._group}.redrive",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            **parse_security(self._options.security),
        )
        try:
            await self.broker.connect()
            await consumer.start()
            for place, end in (await consumer.end_offsets(consumer.assignment())).items():
                while await consumer.position(place) < end:
                    for record in (await consumer.getmany(place, timeout_ms=1000)).get(place, ()):
                        if record.offset < end:
                            await self._settle(consumer, record)
        finally:
            await consumer.stop()
            await self.broker.stop()
        return self.settled

    async def _next(self, consumer: AIOKafkaConsumer) -> "ConsumerRecord[Any, Any]":
        """The next record. FastStream would ask again and again, without a word, for what it cannot have."""
        try:
            return await consumer.getone()
        except _NOT_ALLOWED as refused:
            self._break(refused)
            raise ConsumerStoppedError from refused
        except UnicodeDecodeError as odd:
            read_any_name()
            self._break(KafkaError(f"a record has a header whose name is no text: {odd}"))
            raise ConsumerStoppedError from odd

    async def _parse(self, record: "ConsumerRecord[Any, Any]") -> KafkaMessage:
        """FastStream's own parser drops a record over a null or non-UTF-8 header; this one reads none."""
        return KafkaMessage(body=record.value or b"", headers={}, raw_message=record, consumer=self._consumer)

    @property
    def _consumer(self) -> AIOKafkaConsumer:
        consumer = self._subscriber.consumer
        assert consumer is not None
        return consumer

    async def _receive(self, record: "ConsumerRecord[Any, Any]") -> None:
        """Settle a record. FastStream would go on with the next one after an exception, so that ends the session."""
        assert self._broken is not None
        if self._broken.done():
            return
        try:
            await self._settle(self._consumer, record)
        except Exception as error:
            self._break(error)

    def _break(self, error: Exception) -> None:
        if self._broken is not None and not self._broken.done():
            self._broken.set_exception(error)

    async def _settle(self, consumer: AIOKafkaConsumer, record: "ConsumerRecord[Any, Any]") -> None:
        self._passing("received")
        incoming = Incoming(text_headers(record.headers), record.value or b"")
        outcome = await settle(self._module, incoming, self._options.retry)
        self._passing("handled")
        sent = [await send for send in self._sends(record, outcome)]
        self._passing("sent")
        await asyncio.gather(*sent)
        self._passing("acknowledged")
        try:
            await consumer.commit({TopicPartition(record.topic, record.partition): record.offset + 1})
        except _NOT_OURS as lost:
            # another process has the partition now: it handles this record, too, with the same ids
            logger.bind(module=self._module.name, error=repr(lost)).warning("module.commit_refused")
        self.settled += 1
        self._passing("committed")

    def _sends(self, record: "ConsumerRecord[Any, Any]", outcome: tuple[Result, ...] | DeadLetter) -> list[Any]:
        if isinstance(outcome, DeadLetter):
            log = logger.bind(module=self._module.name, topic=record.topic, offset=record.offset)
            log.bind(reason=outcome.reason, error=outcome.error).error("module.dead_letter")
            headers = text_headers(record.headers) | _story(record, outcome)
            value = record.value or b""
            if len(value) > _LARGEST_DEAD:
                value = b""
            return [self._send(self._dead_letters, record.key, value, headers)]
        topic = self._module.results_topic.name
        return [self._send(topic, result.key.encode(), result.value, result.envelope.headers()) for result in outcome]

    def _send(self, topic: str, key: bytes | None, value: bytes, headers: dict[str, str]) -> Any:
        return self.broker.publish(value, topic=topic, key=key, headers=headers, no_confirm=True)


async def _whole_record(message: KafkaMessage) -> Any:
    """The handler gets the record; FastStream's own decoder would drop what is no JSON."""
    return message.raw_message


def _story(record: "ConsumerRecord[Any, Any]", dead: DeadLetter) -> dict[str, str]:
    """Where a dead letter comes from, and why it is one."""
    return {
        f"{DEAD}topic": record.topic,
        f"{DEAD}partition": str(record.partition),
        f"{DEAD}offset": str(record.offset),
        f"{DEAD}reason": dead.reason,
        f"{DEAD}error": dead.error,
        f"{DEAD}attempts": str(dead.attempts),
        f"{DEAD}at": datetime.now(UTC).isoformat(),
    }
