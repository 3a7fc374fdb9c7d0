"""Subscriptions to the topics of modules that answer requests by themselves: one topic, one module."""

from collections.abc import Sequence

from kgl_contracts.given import ExtractionGiven, SummaryGiven
from kgl_contracts.topics import module_topic
from kgl_graph.use_cases.hear_given import hear_given
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import Event, Subscription, Verdict


def module_subscriptions(names: Sequence[str]) -> list[Subscription]:
    """One subscription for each module. Whoever may write to its topic is that module, whatever an event says."""
    return [_subscription(name) for name in names]


def _subscription(module: str) -> Subscription:
    subscription = Subscription(f"graph.module.{module}", topic=module_topic(module))

    @subscription.on(ExtractionGiven)
    async def on_extraction_given(tx: Transaction, event: Event[ExtractionGiven]) -> Verdict:
        return await hear_given(tx, module, event.envelope, event.data)

    @subscription.on(SummaryGiven)
    async def on_summary_given(tx: Transaction, event: Event[SummaryGiven]) -> Verdict:
        return await hear_given(tx, module, event.envelope, event.data)

    return subscription
