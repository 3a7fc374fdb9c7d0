"""A broker of its own for tests that restart it, kill it or take its disk: a container of the official image.

It is started as in docker-compose.yml, by `deploy/kafka/broker.env`; needs Docker, and the image.
"""

import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from kgl_servicekit.bus.kafka_connection import KafkaConnection

IMAGE = "apache/kafka:4.3.1"
ENVIRONMENT = Path(__file__).parents[4] / "deploy/kafka/broker.env"
ADMIN_PASSWORD = "admin-secret"  # noqa: S105
_READY_SECONDS = 120.0
_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


class KafkaBroker:
    """One node. `clients` is where users log in by SCRAM, `admin` the administrator's listener.

    With `ca` both are encrypted: `more` are then the arguments of `docker run` that give it its certificate.
    """

    def __init__(self, more: Sequence[str] = (), ca: Path | None = None) -> None:
        self._more = more
        self._ca = ca
        self._name = f"kgl-test-kafka-{secrets.token_hex(4)}"
        self._clients, self._admin = _free_port(), _free_port()

    @property
    def clients(self) -> str:
        return f"localhost:{self._clients}"

    @property
    def admin(self) -> str:
        return f"localhost:{self._admin}"

    def user(self, name: str, password: str) -> KafkaConnection:
        return KafkaConnection(bootstrap=self.clients, user=name, password=password, ca=self._ca)

    @property
    def administrator(self) -> KafkaConnection:
        return KafkaConnection(
            bootstrap=self.admin, user="admin", password=ADMIN_PASSWORD, mechanism="PLAIN", ca=self._ca
        )

    def start(self) -> None:
        """Start it with an empty disk, and wait until it answers."""
        login = f'{_LOGIN} username="admin" password="{ADMIN_PASSWORD}" user_admin="{ADMIN_PASSWORD}";'
        given = {
            "KAFKA_NODE_ID": "1",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_ADVERTISED_LISTENERS": f"CLIENT://localhost:9092,HOST://{self.clients},ADMIN://{self.admin}",
            "KAFKA_LISTENER_NAME_ADMIN_PLAIN_SASL_JAAS_CONFIG": login,
            "KAFKA_LISTENER_NAME_CONTROLLER_PLAIN_SASL_JAAS_CONFIG": login,
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_HEAP_OPTS": "-Xmx400m -Xms400m",
        }
        _docker(
            "run",
            "--detach",
            f"--name={self._name}",
            f"--volume={self._name}:/var/lib/kafka/data",
            f"--publish=127.0.0.1:{self._clients}:9094",
            f"--publish=127.0.0.1:{self._admin}:9095",
            f"--env-file={ENVIRONMENT}",
            *(f"--env={name}={value}" for name, value in given.items()),
            *self._more,
            IMAGE,
        )
        self._wait()

    def restart(self) -> None:
        """Stop it in order, and start it again on its disk."""
        _docker("restart", "--time=30", self._name)
        self._wait()

    def kill(self) -> None:
        """End it as a power cut would, and start it again on its disk."""
        _docker("kill", self._name)
        _docker("start", self._name)
        self._wait()

    def empty(self) -> None:
        """End it, take its disk, and start another in its place: no topics, no users, no rights."""
        self.remove()
        self.start()

    def remove(self) -> None:
        """End it, with its disk."""
        _docker("rm", "--force", "--volumes", self._name)
        _docker("volume", "rm", "--force", self._name)

    def _wait(self) -> None:
        client, until = AdminClient(self.administrator.for_librdkafka()), time.monotonic() + _READY_SECONDS
        while True:
            try:
                client.list_topics(timeout=1)
                return
            except KafkaException as away:
                if time.monotonic() > until:
                    raise RuntimeError(f"{self._name} is not up after {_READY_SECONDS:.0f} s") from away


@contextmanager
def kafka_broker(more: Sequence[str] = (), ca: Path | None = None) -> Iterator[KafkaBroker]:
    """A broker that is gone in the end."""
    broker = KafkaBroker(more, ca)
    try:
        broker.start()
        yield broker
    finally:
        broker.remove()


def _docker(*arguments: str) -> None:
    command = ("docker", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
    if done.returncode != 0:
        raise RuntimeError(f"docker {arguments[0]}: {done.stderr.strip()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
