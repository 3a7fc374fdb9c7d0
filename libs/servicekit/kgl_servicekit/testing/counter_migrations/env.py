"""The migration environment of the counter service."""

from kgl_servicekit.database.migrations import run_environment
from kgl_servicekit.testing.counter import METADATA

run_environment(METADATA)
