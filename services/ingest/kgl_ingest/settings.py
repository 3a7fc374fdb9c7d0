"""The settings of the ingest service."""

from pydantic import Field

from kgl_servicekit.settings import ServiceSettings


class IngestSettings(ServiceSettings):
    """What ingest has besides the common settings. Sizes are bytes, times are seconds."""

    parser_processes: int = Field(default=2, ge=1, description="child processes that parse documents")
    parser_timeout: float = Field(default=60.0, gt=0, description="for one document")
