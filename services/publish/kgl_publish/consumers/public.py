"""Subscriptions to all public topics: live log, feed, deliveries. What is told of deliveries is logged only."""

from kgl_contracts.catalogue import all_events
from kgl_contracts.event import EventData
from kgl_contracts.topics import AI, CONTENT, DOCUMENTS, GRAPH, PUBLISH, Topic
from kgl_publish.use_cases.announce import announce, log_event
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict


async def on_public_event(tx: Transaction, event: Event[EventData]) -> Verdict:
    await announce(tx, event)
    return DONE


async def on_own_event(tx: Transaction, event: Event[EventData]) -> Verdict:
    await log_event(tx, event)  # to deliver it would make the next one, for ever
    return DONE


def _subscription(topic: Topic) -> Subscription:
    subscription = Subscription(f"publish.{topic.name.removeprefix('kgl.')}", topic=topic)
    for model in all_events():
        if model.topic == topic:
            subscription.on(model)(on_own_event if topic == PUBLISH else on_public_event)
    return subscription


public_subscriptions = [_subscription(topic) for topic in (DOCUMENTS, AI, GRAPH, CONTENT, PUBLISH)]
