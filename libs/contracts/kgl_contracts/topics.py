"""The topics of the system, and what each promises its readers."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topic:
    """A named, partitioned log of events.

    partitions  fixed for life, so that a key never changes its partition
    sequenced   events of a key carry the contiguous `sequence` 1, 2, 3 ... over all types
    compacted   each event is the full state of its key; only the last one is kept
    one_shard   all events leave the outbox through one relay shard, in commit order
    public      modules and webhooks may subscribe; internal topics stay between the services
    """

    name: str
    partitions: int = 8
    sequenced: bool = True
    compacted: bool = False
    one_shard: bool = False
    public: bool = True

    def carries(self, declared: "Topic") -> bool:
        """Whether events that are declared for a topic are on this one; each module has one of MODULE_RESULTS."""
        return declared == self or (declared == MODULE_RESULTS and self.name.startswith(_RESULTS))


DOCUMENTS = Topic("kgl.documents")
AI = Topic("kgl.ai")
GRAPH = Topic("kgl.graph")
CONTENT = Topic("kgl.content")
PUBLISH = Topic("kgl.publish")
IDENTITY = Topic("kgl.identity", partitions=1, compacted=True, one_shard=True, public=False)
OPERATIONS = Topic("kgl.operations", public=False)
AUDIT = Topic("kgl.audit", public=False)
# what people decided about dead letters, from ingest to the service that holds the letter
DECISIONS = Topic("kgl.decisions", partitions=1, public=False)
# what an owner tells anew for the rebuild of a derived table: kgl.replay.<subscription that is rebuilt>
REPLAY_GRAPH_DOCUMENTS = Topic("kgl.replay.graph.documents", public=False)
REPLAY_PUBLISH_CONTENT = Topic("kgl.replay.publish.content", public=False)

ALL: tuple[Topic, ...] = (
    DOCUMENTS,
    AI,
    GRAPH,
    CONTENT,
    PUBLISH,
    IDENTITY,
    OPERATIONS,
    AUDIT,
    DECISIONS,
    REPLAY_GRAPH_DOCUMENTS,
    REPLAY_PUBLISH_CONTENT,
)
BY_NAME: dict[str, Topic] = {topic.name: topic for topic in ALL}


_MODULE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_RESULTS = "kgl.in."
MODULE_RESULTS = Topic("kgl.in.{module}", sequenced=False, public=False)


def module_topic(name: str) -> Topic:
    """The topic to which one module, and nobody else, writes its results. ValueError for what is no module's name.

    A module has no database of ours to draw a sequence from, so its readers recognise a repeat by the event's id.
    """
    if not _MODULE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a module; use {_MODULE_NAME.pattern}")
    return Topic(f"{_RESULTS}{name}", sequenced=False, public=False)


def dead_letter_topic(name: str) -> str:
    """Where a module puts the events that it could not handle; in its own name space, so it needs no right of ours."""
    return f"x.{module_topic(name).name.removeprefix(_RESULTS)}.dead-letters"
