"""Who writes and reads which topic: what a service looks for at its start, and what rights on a bus are made of.

It follows from the contracts: the first word of an event's type says who emits it, `consumers` who handles it.
"""

from collections.abc import Iterable, Mapping

from kgl_contracts.catalogue import all_events
from kgl_contracts.topics import AI, ALL, DOCUMENTS, MODULE_RESULTS, Topic

SERVICES = ("auth", "ingest", "graph", "content", "publish")

# whatever is built on the kit reports its work and records what was done; of other words the service has the name
_EVERY_SERVICE = frozenset({"operations", "audit"})
_EMITTED_BY = {"identity": "auth", "ai": "graph"}
# the live log has every public event
_READS_ALL_PUBLIC = "publish"

# what a module has to hear of to serve a capability: its requests, and the documents that they are about
CAPABILITY_TOPICS: Mapping[str, tuple[Topic, ...]] = {"extract": (AI, DOCUMENTS), "summarise": (AI, DOCUMENTS)}


def written_by(service: str) -> tuple[Topic, ...]:
    """The topics of the events that a service emits, by name."""
    return _by_name(
        event.topic
        for event in all_events()
        if event.topic != MODULE_RESULTS
        and (event.producer() in _EVERY_SERVICE or _EMITTED_BY.get(event.producer(), event.producer()) == service)
    )


def read_by(service: str) -> tuple[Topic, ...]:
    """The topics that a service reads, by name; MODULE_RESULTS stands for the topics of all modules."""
    public = (topic for topic in ALL if topic.public and service == _READS_ALL_PUBLIC)
    return _by_name([*public, *(event.topic for event in all_events() if service in event.consumers)])


def _by_name(topics: Iterable[Topic]) -> tuple[Topic, ...]:
    return tuple(sorted(set(topics), key=lambda topic: topic.name))
