"""The topics of the system, and what each promises its readers."""

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


DOCUMENTS = Topic("kgl.documents")
AI = Topic("kgl.ai")
GRAPH = Topic("kgl.graph")
CONTENT = Topic("kgl.content")
PUBLISH = Topic("kgl.publish")
IDENTITY = Topic("kgl.identity", partitions=1, compacted=True, one_shard=True, public=False)
OPERATIONS = Topic("kgl.operations", public=False)
AUDIT = Topic("kgl.audit", public=False)
# what an owner tells anew for the rebuild of a derived table: kgl.replay.<subscription that is rebuilt>
REPLAY_GRAPH_DOCUMENTS = Topic("kgl.replay.graph.documents", public=False)

ALL: tuple[Topic, ...] = (
    DOCUMENTS,
    AI,
    GRAPH,
    CONTENT,
    PUBLISH,
    IDENTITY,
    OPERATIONS,
    AUDIT,
    REPLAY_GRAPH_DOCUMENTS,
)
BY_NAME: dict[str, Topic] = {topic.name: topic for topic in ALL}
