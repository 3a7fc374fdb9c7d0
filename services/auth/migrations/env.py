"""The migration environment of the auth service."""

from kgl_auth.db.tables import METADATA
from kgl_servicekit.database.migrations import run_environment

run_environment(METADATA)
