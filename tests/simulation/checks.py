"""What must hold.

I1 nothing is lost, I2 no effect twice, I3 order by key, I4 no ghost and no zombie, I5 dead letters are exact.
"""

import json
from collections import defaultdict
from typing import Any

from kgl_contracts.topics import DOCUMENTS, GRAPH
from tests.simulation.service import Service
from tests.simulation.world import World

_SETTLING = ("outbox_pending", "held_event", "effect", "outbox_log", "consumer_position")


class Rest:
    """Whether nothing is left to be done: asked at each idle moment, looked at only where something has changed."""

    def __init__(self, world: World, service: Service) -> None:
        self._world = world
        self._service = service
        self._seen: tuple[int, ...] = ()
        self._settled = False

    def settled(self) -> bool:
        if self._world.scheduler.waiting:
            return False
        seen = self._state()
        if seen != self._seen:
            self._seen, self._settled = seen, _settled(self._world, self._service)
        return self._settled

    def _state(self) -> tuple[int, ...]:
        """Another one whenever the answer may be another."""
        world = self._world
        changes = [world.server.tables[name].changes for name in _SETTLING]
        lengths = [len(log) for s in self._service.subscriptions for log in world.broker.logs[s.topic.name].partitions]
        return (*changes, *lengths, world.broker.lives, len(world.history.discarded))


def _settled(world: World, service: Service) -> bool:
    """All is sent, and each event has its effect, or is dead, or behind one."""
    if world.rows("outbox_pending"):
        return False
    held = world.rows("held_event")
    stuck = _behind_dead(held)
    if any(row["id"] not in stuck for row in held):
        return False
    if any(_decidable(service, row) for row in held if row["state"] == "dead"):
        return False
    done = {(row["subscription"], row["event_id"]) for row in world.rows("effect")}
    done |= {(row["subscription"], row["event_id"]) for row in held}
    for subscription in service.subscriptions:
        for event in _events(world, subscription.topic.name):
            if (subscription.name, event["event_id"]) not in done and event["event_id"] not in world.history.discarded:
                return False
    return not _missing_on_bus(world) and _read_to_the_end(world, service)


def _decidable(service: Service, row: dict[str, Any]) -> bool:
    """Whether the operator still has something to decide about this dead letter."""
    payload = json.loads(row["value"])["version"]
    return payload not in service.behaviour.poisons | service.behaviour.rejects


def _read_to_the_end(world: World, service: Service) -> bool:
    stored = {
        (row["subscription"], row["incarnation"], row["partition"]): row["next"]
        for row in world.rows("consumer_position")
    }
    for subscription in service.subscriptions:
        log = world.broker.logs[subscription.topic.name]
        for partition, records in enumerate(log.partitions):
            if stored.get((subscription.name, log.incarnation, partition), 0) != len(records):
                return False
    return True


def _events(world: World, topic: str) -> list[dict[str, Any]]:
    return [row for row in world.rows("outbox_log") if row["topic"] == topic]


def _behind_dead(held: list[dict[str, Any]]) -> set[int]:
    """The held events that wait for nothing but an operator."""
    heads: dict[tuple[str, str], dict[str, Any]] = {}
    for row in held:
        place = (row["subscription"], row["key"])
        if place not in heads or _order(row) < _order(heads[place]):
            heads[place] = row
    return {row["id"] for row in held if heads[row["subscription"], row["key"]]["state"] == "dead"}


def _order(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["epoch"] or 0, row["sequence"] or 0, row["id"]


def violations(world: World, service: Service) -> list[str]:
    """All that does not hold at the end of a schedule."""
    found = list(world.history.violations)
    found += _requests(world)
    found += _sequences(world)
    found += _bus_order(world)
    found += _missing_on_bus(world)
    for subscription in service.subscriptions:
        found += _effects(world, subscription.name, subscription.topic.name)
    if GRAPH.name in {subscription.topic.name for subscription in service.subscriptions}:
        found += _consequences(world)
    found += _dead_letters(world, service)
    found += [f"a callback failed: {failure.get('exception')!r}" for failure in world.loop.failures]
    return found


def _requests(world: World) -> list[str]:
    """What was confirmed is there; each request's row has its events, and each event its row."""
    made = {row["cause"]: row["events"] for row in world.rows("made")}
    told: dict[Any, int] = defaultdict(int)
    for event in _events(world, DOCUMENTS.name):
        told[event["causation_id"]] += 1
    found = [f"I1 a confirmed request is lost: {cause}" for cause in world.history.acked - made.keys()]
    found += [
        f"I4 a request with {made.get(cause, 0)} events has {told.get(cause, 0)} in the outbox"
        for cause in made.keys() | told.keys()
        if made.get(cause, 0) != told.get(cause, 0)
    ]
    return found


def _sequences(world: World) -> list[str]:
    """Contiguous by key, and in the order of the ids."""
    by_key: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for event in world.rows("outbox_log"):
        by_key[event["topic"], event["key"]].append((event["id"], event["sequence"]))
    return [
        f"I3 sequences of {topic} {key[-4:]} by id are {[n for _, n in sorted(numbers)]}"
        for (topic, key), numbers in by_key.items()
        if [n for _, n in sorted(numbers)] != list(range(1, len(numbers) + 1))
    ]


def _bus_order(world: World) -> list[str]:
    """The events of a key come for the first time in their order; where the bus has lost some, others came before."""
    found = []
    for topic in world.broker.logs.keys() - world.history.lost_topics:
        for records in world.broker.logs[topic].partitions:
            last: dict[str, int] = defaultdict(int)
            for record in records:
                sequence = int(record.headers["ce_sequence"])
                if sequence > last[record.key] + 1:
                    found.append(f"I3 on {topic} {record.key[-4:]}/{sequence} came before {last[record.key] + 1}")
                last[record.key] = max(last[record.key], sequence)
    return found


def _missing_on_bus(world: World) -> list[str]:
    """What a bus has lost comes again, if somebody has noticed that it has."""
    found = []
    for topic in (DOCUMENTS.name, GRAPH.name):
        records = [record for partition in world.broker.logs[topic].partitions for record in partition]
        there = {(record.key, record.headers["ce_sequence"]) for record in records}
        found += [
            f"I1 {topic} has {event['key'][-4:]}/{event['sequence']} no more"
            for event in _events(world, topic)
            if (event["key"], str(event["sequence"])) not in there
        ]
    return found


def _effects(world: World, subscription: str, topic: str) -> list[str]:
    events = {event["event_id"]: event for event in _events(world, topic)}
    held = {row["event_id"] for row in world.rows("held_event") if row["subscription"] == subscription}
    effects = sorted(
        (row for row in world.rows("effect") if row["subscription"] == subscription), key=lambda row: row["id"]
    )
    found, seen = [], set()
    last: dict[str, int] = defaultdict(int)
    for effect in effects:
        place = f"{subscription} {effect['key'][-4:]}/{effect['sequence']}"
        if effect["event_id"] in seen:
            found.append(f"I2 {place} had two effects")
        seen.add(effect["event_id"])
        if effect["event_id"] not in events:
            found.append(f"I4 {place} had an effect and was never sent")
        if effect["event_id"] in held:
            found.append(f"I2 {place} had an effect and is held")
        if effect["sequence"] <= last[effect["key"]]:
            found.append(f"I3 {place} had its effect after {last[effect['key']]}")
        last[effect["key"]] = max(last[effect["key"]], effect["sequence"])
    for id, event in events.items():
        if id not in seen and id not in held and id not in world.history.discarded:
            found.append(f"I1 {subscription} {event['key'][-4:]}/{event['sequence']} has no effect and is not held")
    return found


def _consequences(world: World) -> list[str]:
    """Each effect of a document's event has told the graph once, and nothing else has."""
    effects = {row["event_id"] for row in world.rows("effect") if row["subscription"] == "counter.documents"}
    told = [event["causation_id"] for event in _events(world, GRAPH.name)]
    found = [f"I4 {id} had an effect and told nobody" for id in effects - set(told)]
    found += [f"I4 {id} told somebody and had no effect" for id in set(told) - effects]
    found += [f"I2 {id} told twice" for id in {id for id in told if told.count(id) > 1}]
    return found


def _dead_letters(world: World, service: Service) -> list[str]:
    """What is held is held for what happened, as it came; its key is held, and no other."""
    found = []
    held = world.rows("held_event")
    keys = {(row["subscription"], row["key"]) for row in world.rows("held_key")}
    if keys != {(row["subscription"], row["key"]) for row in held}:
        found.append(f"I5 held keys are {len(keys)}, and keys of held events are others")
    # what waited for a missing event and came again with it is let go when its turn comes
    places = [(row["subscription"], row["event_id"]) for row in held if row["reason"] != "gap"]
    if len(set(places)) != len(places):
        found.append("I5 an event is held twice")
    for row in held:
        log = world.broker.logs[row["topic"]]
        if log.incarnation == row["incarnation"] and row["topic"] not in world.history.cut_topics:
            record = log.partitions[row["partition"]][row["offset"]]
            if (record.value, dict(record.headers), record.key) != (row["value"], row["headers"], row["key"]):
                found.append(f"I5 the held event {row['id']} is not as it came")
    return found


def look_at_holds(world: World, service: Service) -> None:
    """After each commit: nobody is blamed for what he did not do."""
    history, chances = world.history, world.scheduler.chances
    attempts = {subscription.name: subscription.attempts for subscription in service.subscriptions}
    for row in world.rows("held_event"):
        raised = history.raised.get(row["event_id"], 0)
        place = f"{row['subscription']} {row['key'][-4:]}/{row['sequence']}"
        if row["reason"] == "failed" and not raised:
            history.violated(f"I5 {place} is held as failed and never raised")
        if row["reason"] == "rejected" and row["event_id"] not in history.rejected:
            history.violated(f"I5 {place} is dead as rejected and never was")
        if row["reason"] in ("unreadable", "too_old"):
            history.violated(f"I5 {place} is held as {row['reason']}")
        if row["reason"] == "quarantined" and not world.killed:
            history.violated(f"I5 {place} is held as a killer and nobody died")
        spent = row["state"] == "dead" and row["reason"] == "failed"
        silent = world.killed or chances.kill or chances.freeze or chances.jump  # an attempt without a word counts
        if spent and not silent and raised < attempts[row["subscription"]]:
            history.violated(f"I5 {place} is dead after {raised} of {attempts[row['subscription']]} attempts")
