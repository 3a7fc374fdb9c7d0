"""A whole system for tests: `kgl dev` in a process of its own, reached by HTTP alone; and a prepared Kafka."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kgl_cli.home import Credentials, Home, free_port
from kgl_cli.postgres import stop_server
from kgl_cli.setup.kafka import KafkaSetupSettings
from kgl_cli.setup.kafka import setup as setup_kafka
from kgl_contracts.rights import SERVICES
from kgl_servicekit.testing.kafka_broker import ADMIN_PASSWORD, ENVIRONMENT, KafkaBroker, kafka_broker

_READY_SECONDS = 60.0


class DevSystem:
    """`kgl dev` on a home of its own; it may be killed, and started again."""

    def __init__(self, home: Home, environment: dict[str, str]) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None
        self._environment = environment

    def start(self) -> Credentials:
        """Start, and wait until it is ready; the port stays the same from start to start."""
        self.home.clear_running()
        with (self.home.path / "dev.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kgl_cli.main", "dev"],
                env={**os.environ, **self._environment, "KGL_HOME": str(self.home.path)},
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + _READY_SECONDS
        while (running := self.home.running()) is None:
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError((self.home.path / "dev.log").read_text()[-3000:])
            time.sleep(0.05)
        credentials = self.home.credentials(running.url)
        assert credentials is not None
        return credentials

    def kill(self) -> None:
        """End it with -9, whatever it is doing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """End it in good order; the answer is its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)


@contextmanager
def dev_system(**environment: str) -> Iterator[DevSystem]:
    """A system that is not started yet; whatever it leaves behind is removed in the end."""
    folder = Path(tempfile.mkdtemp(prefix="kgl-e2e-"))
    folder.chmod(0o755)
    home = Home(folder)
    home.keep_port(free_port())  # 8080 would be fought for by tests that run side by side
    system = DevSystem(home, environment)
    try:
        yield system
    finally:
        if system.process is not None and system.process.poll() is None:
            system.kill()
        stop_server(system.home)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def prepared_kafka() -> Iterator[tuple[KafkaBroker, KafkaSetupSettings]]:
    """A broker of its own with topics, users and rights; the settings are those that prepare it again."""
    with kafka_broker() as broker:
        settings = kafka_settings(broker)
        asyncio.run(setup_kafka(settings, lambda line: None))
        yield broker, settings


def kafka_settings(broker: KafkaBroker, **more: Any) -> KafkaSetupSettings:
    """How `kgl setup kafka` is told of a broker of tests; the password of each service is `<service>-secret`."""
    passwords = {f"kafka_password_{service}": f"{service}-secret" for service in SERVICES}
    return KafkaSetupSettings(
        **{
            "kafka_admin_bootstrap": broker.admin,
            "kafka_admin_password": ADMIN_PASSWORD,
            "kafka_topics": ENVIRONMENT.with_name("topics.yaml"),
            **passwords,
            **more,
        }
    )
