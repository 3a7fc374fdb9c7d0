"""The real servers that the contract suites of adapters run on besides their embedded twins.

`KGL_TEST_SERVERS` names a JSON file with the fields of `Servers`; what is missing in it is not tested. Without
the variable nothing but the embedded twins is.
"""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Login(BaseModel):
    """Somebody who may do everything on one server, and where it is reached from this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    user: str = ""
    password: str = ""


class Servers(BaseModel):
    """Each by its administrator. Tests make what they need under names of their own.

    postgres  postgresql://host:port/postgres
    kafka     host:port of a listener with SASL; see `kafka_mechanism`
    s3        http://host:port
    weaviate  http://host:port; the password is the API key; gRPC at `weaviate_grpc`
    keycloak  http://host:port
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    postgres: Login | None = None
    kafka: Login | None = None
    kafka_mechanism: str = "PLAIN"
    s3: Login | None = None
    weaviate: Login | None = None
    weaviate_grpc: str = ""
    keycloak: Login | None = None


def real_servers() -> Servers:
    """Those that are there."""
    path = os.environ.get("KGL_TEST_SERVERS")
    return Servers.model_validate_json(Path(path).read_bytes()) if path else Servers()
