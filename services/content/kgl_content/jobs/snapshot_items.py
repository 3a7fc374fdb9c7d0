"""Job: tell a page of released items. It needs nothing of the world outside."""

from kgl_content.jobs.declared import Outside, SnapshotItems, jobs
from kgl_content.use_cases.snapshot_items import ITEMS
from kgl_servicekit.jobs.runner import Job


@jobs.handles(SnapshotItems, timeout=60, attempts=20, concurrency=1)
async def snapshot_items(job: Job[SnapshotItems], _: Outside) -> None:
    """One page in one transaction with the order for the next."""
    await job.finish(ITEMS.tell_page, job.data)
