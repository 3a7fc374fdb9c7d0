"""The migration environment of ingest."""

from kgl_ingest.db.tables import METADATA
from kgl_servicekit.database.migrations import run_environment

run_environment(METADATA)
