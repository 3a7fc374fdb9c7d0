"""The settings of the graph service."""

from pydantic import Field

from kgl_servicekit.settings import ServiceSettings


class GraphSettings(ServiceSettings):
    """What graph has besides the common settings."""

    exact_search_below: int = Field(
        default=20_000, description="vectors of a workspace up to which vector search compares all of them"
    )
    kafka_modules: str = Field(
        default="", description="modules that answer on kgl.in.<module>, with commas between; the operator's choice"
    )
    request_sweep_seconds: float = Field(
        default=2.0, gt=0, description="between looks for leases and deadlines that are over"
    )

    @property
    def kafka_module_names(self) -> tuple[str, ...]:
        """The names in `kafka_modules`."""
        return tuple(name.strip() for name in self.kafka_modules.split(",") if name.strip())
