"""Subscriptions to all public topics: live log, feed, deliveries."""

from kgl_contracts.catalogue import all_events
from kgl_contracts.event import EventData
from kgl_contracts.topics import AI, CONTENT, DOCUMENTS, GRAPH, Topic
from kgl_publish.use_cases.announce import announce
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict


async def on_public_event(tx: Transaction, event: Event[EventData]) -> Verdict:
    await announce(tx, event)
    return DONE


def _subscription(topic: Topic) -> Subscription:
    subscription = Subscription(f"publish.{topic.name.removeprefix('kgl.')}", topic=topic)
    for model in all_events():
        if model.topic == topic:
            subscription.on(model)(on_public_event)
    return subscription


public_subscriptions = [_subscription(topic) for topic in (DOCUMENTS, AI, GRAPH, CONTENT)]
