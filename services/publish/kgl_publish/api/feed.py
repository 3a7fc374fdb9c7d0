"""/publish/v1/feed.atom: published items for feed readers."""

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from kgl_publish.db import feeds
from kgl_publish.domain.atom import Entry, feed
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.http import ApiRouter, Caller, Run
from kgl_servicekit.http.app import Kit

router = ApiRouter(tags=["feed"])

_ENTRIES = 50
_EMPTY_AT = datetime(2026, 1, 1, tzinfo=UTC)


@router.get("/feed.atom", permission="publish:read", response_class=Response)
async def get_feed(request: Request, caller: Caller, run: Run) -> Response:
    """The newest 50 published items as an Atom feed."""
    kit: Kit = request.app.state.kit
    entries = await run(_newest, None)
    body = feed(kit.settings.public_url, caller.workspace_id, entries, _EMPTY_AT)
    return Response(body, media_type="application/atom+xml")


async def _newest(tx: Transaction, _: None) -> list[Entry]:
    return list(await feeds.newest_items(tx, _ENTRIES))
