"""The migration environment of publish."""

from kgl_publish.db.tables import METADATA
from kgl_servicekit.database.migrations import run_environment

run_environment(METADATA)
