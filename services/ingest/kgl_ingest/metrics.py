"""The metrics of ingest, besides those of the core."""

from prometheus_client import Counter, Gauge

COLLECTED = Counter(
    "kgl_ingest_collected_objects_total",
    "Objects that the collector deleted: unreferenced files, and orphans that no row ever named",
    ["reason"],
)
COLLECTED_BYTES = Counter("kgl_ingest_collected_bytes_total", "Bytes of the objects that were deleted", ["reason"])
UNFINISHED_OLDEST = Gauge(
    "kgl_oldest_unfinished_age_seconds", "Age of the oldest operation that has not ended, by a sample every 15 seconds"
)
OVERDUE = Gauge(
    "kgl_overdue_stages", "Stages of unfinished operations past their deadline, by a sample every 15 seconds", ["stage"]
)
