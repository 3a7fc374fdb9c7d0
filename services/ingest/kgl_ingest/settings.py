"""The settings of the ingest service."""

from pydantic import Field

from kgl_servicekit.settings import ServiceSettings


class IngestSettings(ServiceSettings):
    """What ingest has besides the common settings. Sizes are bytes, times are seconds."""

    parser_processes: int = Field(default=2, ge=1, description="child processes that parse documents")
    collect_after: float = Field(default=86400.0, ge=3600, description="age at which an unreferenced file goes")
    collect_every: float = Field(default=3600.0, gt=0, description="between two passes of the collector")
    compare_every: float = Field(
        default=86400.0, gt=0, description="between two comparisons of the object store with the tables"
    )
    parser_timeout: float = Field(default=60.0, gt=0, description="for one document")
    receipt_days: int = Field(default=90, ge=1, le=3660, description="after its end a receipt is kept")
    link_seconds: int = Field(default=300, ge=1, le=604_800, description="for which the link to a file works")
