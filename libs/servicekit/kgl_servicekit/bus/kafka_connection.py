"""How Kafka is reached: addresses, login and certificates, in the words of both client libraries."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError

from kgl_servicekit.errors import Unavailable

LOST = (KafkaError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConnection:
    """A cluster and the user on it. With `ca`, or `tls` alone (the system's certificates), all is encrypted.

    bootstrap   host:port,... of some brokers
    mechanism   SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN; used if there is a user
    settings    what the names of its settings begin with, for who has to mend them
    """

    bootstrap: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    mechanism: str = "SCRAM-SHA-512"
    tls: bool = False
    ca: Path | None = None
    settings: str = "KGL_KAFKA"

    @property
    def encrypted(self) -> bool:
        return self.tls or self.ca is not None

    @property
    def protocol(self) -> str:
        """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
        return ("SASL_" if self.user else "") + ("SSL" if self.encrypted else "PLAINTEXT")

    def for_aiokafka(self) -> dict[str, Any]:
        """Arguments of its consumer and producer."""
        options: dict[str, Any] = {"bootstrap_servers": self.bootstrap, "security_protocol": self.protocol}
        if self.encrypted:
            options["ssl_context"] = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        if self.user:
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password,
            }
        return options

    def for_librdkafka(self) -> dict[str, Any]:
        """Its configuration properties; it says nothing on standard error, errors are ours to tell."""
        options: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": self.protocol,
            "log_level": 0,
            "reconnect.backoff.max.ms": 1000,
        }
        if self.ca is not None:
            options["ssl.ca.location"] = str(self.ca)
        if self.user:
            options |= {
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.user,
                "sasl.password": self.password,
            }
        return options


@contextmanager
def outages() -> Iterator[None]:
    """Whatever Kafka or the way to it raises, as Unavailable."""
    try:
        yield
    except LOST as lost:
        raise Unavailable(f"Kafka cannot be used: {type(lost).__name__}: {lost}", retry_after=1) from lost
