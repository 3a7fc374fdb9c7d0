"""Subscription to texts of modules: they become drafts."""

from kgl_content.use_cases.draft_item import request_draft
from kgl_contracts.ai import ContentGenerated
from kgl_contracts.topics import AI
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import Event, Subscription, Verdict

content_ai = Subscription("content.ai", topic=AI)


@content_ai.on(ContentGenerated)
async def on_content_generated(tx: Transaction, event: Event[ContentGenerated]) -> Verdict:
    return await request_draft(tx, event.data)
