"""The metrics of ingest, besides those of the core."""

from prometheus_client import Counter

COLLECTED = Counter(
    "kgl_ingest_collected_objects_total",
    "Objects that the collector deleted: unreferenced files, and orphans that no row ever named",
    ["reason"],
)
COLLECTED_BYTES = Counter("kgl_ingest_collected_bytes_total", "Bytes of the objects that were deleted", ["reason"])
