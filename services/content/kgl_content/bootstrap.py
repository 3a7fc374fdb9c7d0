"""The composition root of content: the only place that builds its stores."""

from functools import partial
from pathlib import Path

from kgl_content.api import items
from kgl_content.consumers.ai import content_ai
from kgl_content.consumers.documents import content_documents
from kgl_content.consumers.snapshots import content_snapshots
from kgl_content.jobs import draft_content, snapshot_items
from kgl_content.jobs.declared import Outside, jobs
from kgl_content.settings import ContentSettings
from kgl_servicekit.bus.port import Bus
from kgl_servicekit.database.engine import Database
from kgl_servicekit.objects.choose import objects_of, opened
from kgl_servicekit.service import Service

MIGRATIONS = Path(__file__).parent.parent / "migrations"
JOB_HANDLERS = (draft_content.draft_content, snapshot_items.snapshot_items)


def build(settings: ContentSettings, bus: Bus) -> Service:
    """The content service with the store that its settings name; raises NotConfigured without an object store."""
    objects = objects_of(settings, read_only=True)

    return Service(
        name="content",
        settings=settings,
        database=Database(settings.database_url.get_secret_value(), service="content", pool_size=settings.pool_size),
        bus=bus,
        migrations=MIGRATIONS,
        routers=[("/content/v1", items.router)],
        subscriptions=[content_ai, content_documents, content_snapshots],
        jobs=jobs,
        outside=Outside(objects=objects),
        checks={"objects": objects.ping},
        resources=[partial(opened, objects)],
    )
