"""The runtime of a module, chosen by its environment: Kafka where KGL_KAFKA_BOOTSTRAP or _PROPERTIES is set, else HTTP.

KGL_KAFKA_PROPERTIES  the file that `kgl module register --kafka` printed; what stands beside it wins
KGL_KAFKA_BOOTSTRAP  host:port of some brokers, with commas
KGL_KAFKA_USER, _PASSWORD, _MECHANISM (SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN), _TLS (true), _CA (a file), _PREFIX
KGL_URL, KGL_API_KEY  the system over HTTP
KGL_DEAD_LETTERS      the file of dead letters over HTTP
"""

import asyncio
import contextlib
import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from kgl_client.api import Api
from kgl_client.events.http import Accept, HttpEvents
from kgl_client.events.kafka import KafkaEvents, KafkaOptions
from kgl_client.events.module import EventModule

_LOGINS: dict[str, type[SASLPlaintext | SASLScram256 | SASLScram512]] = {
    "PLAIN": SASLPlaintext,
    "SCRAM-SHA-256": SASLScram256,
    "SCRAM-SHA-512": SASLScram512,
}


_PROPERTIES = {
    "bootstrap.servers": "KGL_KAFKA_BOOTSTRAP",
    "sasl.username": "KGL_KAFKA_USER",
    "sasl.password": "KGL_KAFKA_PASSWORD",
    "sasl.mechanism": "KGL_KAFKA_MECHANISM",
    "ssl.ca.location": "KGL_KAFKA_CA",
}


def kafka_environment(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The environment, with what its file of librdkafka properties says besides. OSError for a missing file."""
    path = environment.get("KGL_KAFKA_PROPERTIES")
    if path is None:
        return environment
    lines = (line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    properties = {name.strip(): value.strip() for name, _, value in pairs}
    found = {mine: properties[theirs] for theirs, mine in _PROPERTIES.items() if theirs in properties}
    if properties.get("security.protocol", "").endswith("SSL"):
        found["KGL_KAFKA_TLS"] = "true"
    return {**found, **environment}


def kafka_options(environment: Mapping[str, str]) -> KafkaOptions:
    """How the environment says to reach the cluster. KeyError for a mechanism that is none."""
    ca = environment.get("KGL_KAFKA_CA")
    tls = ca is not None or environment.get("KGL_KAFKA_TLS", "").lower() in {"1", "true", "yes"}
    context = ssl.create_default_context(cafile=ca) if tls else None
    user = environment.get("KGL_KAFKA_USER")
    security = BaseSecurity(ssl_context=context, use_ssl=tls) if tls else None
    if user is not None:
        login = _LOGINS[environment.get("KGL_KAFKA_MECHANISM", "SCRAM-SHA-512")]
        security = login(user, environment["KGL_KAFKA_PASSWORD"], ssl_context=context, use_ssl=tls)
    return KafkaOptions(security=security, prefix=environment.get("KGL_KAFKA_PREFIX", ""))


def runtime(
    module: EventModule, *, options: KafkaOptions | None = None, accept: Accept | None = None
) -> KafkaEvents | HttpEvents:
    """The runtime that the environment asks for; raises KeyError when it names neither."""
    environment = kafka_environment(os.environ)
    options = options or kafka_options(environment)
    if brokers := environment.get("KGL_KAFKA_BOOTSTRAP"):
        return KafkaEvents(module, brokers, options)
    path = os.environ.get("KGL_DEAD_LETTERS")
    api = Api(os.environ["KGL_URL"], os.environ["KGL_API_KEY"])
    return HttpEvents(module, api, accept, dead_letters=Path(path) if path else None, retry=options.retry)


def run(module: EventModule, *, options: KafkaOptions | None = None, accept: Accept | None = None) -> None:
    """Handle events until the process is ended."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(runtime(module, options=options, accept=accept).work())


def redrive(module: EventModule, *, options: KafkaOptions | None = None, accept: Accept | None = None) -> int:
    """Handle the module's dead letters once more; the answer is how many there were."""
    return asyncio.run(runtime(module, options=options, accept=accept).redrive())
