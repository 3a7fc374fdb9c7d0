"""What the small service has on the broker of the compose system: topics under a prefix, a user, and its rights."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from confluent_kafka import Producer

from kgl_cli.setup.kafka import KafkaAdminSettings, Wanted, administrated, reconcile
from kgl_cli.setup.kafka_rights import Right, rights_of_service, user_of_service
from kgl_cli.setup.kafka_topics import TOPICS, DeclaredTopic, Topics
from kgl_contracts.rights import written_by
from kgl_contracts.topics import DECISIONS, IDENTITY
from kgl_servicekit.bus.kafka_connection import KafkaConnection
from kgl_servicekit.testing.kafka_server import KafkaServerBus
from kgl_servicekit.testing.servers import Login
from tests.faults.contract import ITEMS, SOURCE, TAKEN
from tests.faults.system import RawRecord

_LIMIT = 15.0
_READS = (ITEMS, TAKEN, IDENTITY, DECISIONS)
_PASSWORD = uuid4().hex


class OnKafka:
    """One life of the small service on a broker; all under the prefix is made by `prepare`."""

    def __init__(self, administrator: Login, mechanism: str) -> None:
        self.prefix = f"faults-{uuid4().hex[:8]}."
        self.connection = KafkaConnection(
            bootstrap=administrator.url,
            user=administrator.user,
            password=administrator.password,
            mechanism=mechanism,
        )
        self._settings = KafkaAdminSettings.model_validate(
            {
                "kafka_admin_bootstrap": administrator.url,
                "kafka_admin_user": administrator.user,
                "kafka_admin_password": administrator.password,
                "kafka_admin_mechanism": mechanism,
            }
        )
        self._declared = Topics.read(TOPICS)

    @property
    def environment(self) -> dict[str, str]:
        """How the processes of the service are told of it."""
        return {
            "KGL_BUS": "kafka",
            "KGL_KAFKA_BOOTSTRAP": self.connection.bootstrap,
            "KGL_KAFKA_USER": user_of_service(SOURCE, self.prefix),
            "KGL_KAFKA_PASSWORD": _PASSWORD,
            "KGL_KAFKA_PREFIX": self.prefix,
        }

    def bus(self) -> KafkaServerBus:
        """The bus, as its administrator."""
        return KafkaServerBus(self.connection, prefix=self.prefix)

    async def prepare(self) -> None:
        """As `kgl setup kafka` does for the five services: topics, the user, and no more rights than it needs."""
        user = user_of_service(SOURCE, self.prefix)
        own = {Right(user, "READ", "TOPIC", self.prefix + topic.name) for topic in _READS}
        own |= {Right(user, "WRITE", "TOPIC", self.prefix + topic.name) for topic in (ITEMS, TAKEN)}
        wanted = Wanted(
            topics=self._topics(),
            passwords={user: _PASSWORD},
            rights=rights_of_service(SOURCE, self.prefix) | own,
        )
        async with administrated(self._settings) as cluster:
            await reconcile(cluster, wanted, lambda line: None)

    def _topics(self) -> list[DeclaredTopic]:
        topics = {*written_by(SOURCE), *_READS}
        config = {**self._declared.every, **self._declared.replication[1]}
        return [
            DeclaredTopic(
                name=self.prefix + topic.name,
                partitions=topic.partitions,
                replication=1,
                config={**config, **({"cleanup.policy": "compact"} if topic.compacted else {})},
            )
            for topic in topics
        ]

    async def forget(self) -> None:
        """Take the topics away."""
        names = [topic.name for topic in self._topics()]

        def delete(client: Any) -> None:
            for answer in client.delete_topics(names).values():
                answer.result(_LIMIT)

        async with administrated(self._settings) as cluster:
            await cluster._admin.ask(delete)

    async def inject(self, topic: str, records: Sequence[RawRecord], partitions: int) -> None:
        """Put records there as they are."""

        def send() -> int:
            producer = Producer(self.connection.for_librdkafka())
            for index, record in enumerate(records):
                producer.produce(
                    self.prefix + topic,
                    value=record.value,
                    key=record.key.encode(),
                    headers=list(record.headers.items()),
                    partition=index % partitions,
                )
            return producer.flush(_LIMIT)

        assert await asyncio.to_thread(send) == 0, "the broker has not taken all records"
