"""What is compared in publish to find drift."""

from kgl_publish.db import published_items
from kgl_publish.rebuilds.items import items
from kgl_publish.use_cases.mend_feed import compare_told, mend_told
from kgl_servicekit.bus.port import Bus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.drift.check import DriftCheck
from kgl_servicekit.drift.snapshots import SnapshotCheck


def drift_checks(database: Database, bus: Bus) -> list[DriftCheck]:
    """The feed with what content tells of all that is released."""
    return [
        SnapshotCheck(
            name="publish.items",
            database=database,
            bus=bus,
            rebuild=items,
            compare=compare_told,
            here=published_items.shown,
            mend=mend_told,
        )
    ]
