"""Events for modules: declare handlers once, run them on Kafka or over HTTP.

    events = EventModule("keyword-tagger")

    @events.on(DocumentParsed)
    async def tag(event: Event[DocumentParsed]) -> KeywordFound: ...

    run(events)

What a handler returns or yields is published under stable ids, and only then does the position move. So an
event is handled again after a crash at any point, and its results are the same events again.
"""

from kgl_client.events.http import HttpEvents
from kgl_client.events.kafka import KafkaEvents, KafkaOptions
from kgl_client.events.module import Event, EventModule
from kgl_client.events.results import Result
from kgl_client.events.running import redrive, run, runtime
from kgl_client.events.settling import Retry
from kgl_client.module import CannotDo

__all__ = [
    "CannotDo",
    "Event",
    "EventModule",
    "HttpEvents",
    "KafkaEvents",
    "KafkaOptions",
    "Result",
    "Retry",
    "redrive",
    "run",
    "runtime",
]
