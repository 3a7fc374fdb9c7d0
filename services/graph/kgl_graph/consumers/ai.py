"""Subscription to results of modules: what they found is linked."""

from kgl_contracts.ai import ExtractionCompleted
from kgl_contracts.topics import AI
from kgl_graph.use_cases.request_linking import request_linking
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import Event, Subscription, Verdict

graph_ai = Subscription("graph.ai", topic=AI)


@graph_ai.on(ExtractionCompleted)
async def on_extraction_completed(tx: Transaction, event: Event[ExtractionCompleted]) -> Verdict:
    return await request_linking(tx, event.data)
