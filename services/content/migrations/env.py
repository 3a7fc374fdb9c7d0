"""The migration environment of content."""

from kgl_content.db.tables import METADATA
from kgl_servicekit.database.migrations import run_environment

run_environment(METADATA)
