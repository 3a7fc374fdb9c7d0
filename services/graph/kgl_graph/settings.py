"""The settings of the graph service."""

from typing import Literal

from pydantic import Field, SecretStr

from kgl_servicekit.settings import ServiceSettings


class GraphSettings(ServiceSettings):
    """What graph has besides the common settings."""

    exact_search_below: int = Field(
        default=20_000, description="vectors of a workspace up to which vector search compares all of them"
    )
    kafka_modules: str = Field(
        default="", description="modules that answer on kgl.in.<module>, with commas between; the operator's choice"
    )
    collect_after: float = Field(default=86400.0, ge=3600, description="age at which one without a request goes")
    collect_every: float = Field(default=3600.0, gt=0, description="between two looks for such results")
    request_sweep_seconds: float = Field(
        default=2.0, gt=0, description="between looks for leases and deadlines that are over"
    )

    vectors: Literal["pgvector", "weaviate"] = Field(
        default="pgvector", description="where vectors are kept; after a change: migrate, and rebuild search"
    )
    weaviate_url: str = Field(default="", description="http://host:port")
    weaviate_grpc: str = Field(default="", description="host:port; port 50051 of the URL's host by default")
    weaviate_api_key: SecretStr | None = None
    weaviate_collection: str = Field(
        default="KglChunk", pattern=r"^[A-Z][A-Za-z0-9_]*$", description="of this installation alone; made if missing"
    )
    vector_sweep_seconds: float = Field(
        default=21_600.0, gt=0, description="between looks for vectors that came too late, in a store of their own"
    )

    @property
    def kafka_module_names(self) -> tuple[str, ...]:
        """The names in `kafka_modules`."""
        return tuple(name.strip() for name in self.kafka_modules.split(",") if name.strip())
