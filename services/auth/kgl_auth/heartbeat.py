"""The tick of kgl.identity: once a second it proves that all that was committed before it has been sent."""

from datetime import datetime

from kgl_contracts.envelope import Envelope
from kgl_contracts.identity import Ticked
from kgl_servicekit.bus.port import Record
from kgl_servicekit.ids import derived_id

SOURCE = "auth"


def heartbeat(at: datetime) -> Record:
    """The tick of this moment: always the same record for the same `at`; later ones have greater sequences."""
    tick = Ticked(at=at)
    envelope = Envelope(
        id=derived_id(tick.event_type, at.isoformat()),
        type=tick.event_type,
        source=SOURCE,
        time=at,
        sequence=int(at.timestamp() * 1000),
    )
    return Record(
        topic=tick.topic.name, key=tick.key, headers=envelope.headers(), value=tick.model_dump_json().encode()
    )
