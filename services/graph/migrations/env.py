"""The migration environment of graph."""

from kgl_graph.db.tables import METADATA
from kgl_servicekit.database.migrations import run_environment

run_environment(METADATA)
