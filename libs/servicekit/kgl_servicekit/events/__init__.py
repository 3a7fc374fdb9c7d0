"""Events in and out: outbox and relay, subscriptions, consumers, holds."""
