"""A drill: events that are broken on purpose, to try what is done when something fails.

`KGL_POISON=ingest.document.parsed.v1` puts a word where the first number was into the data of each event of that
type which this process sends; refused in production. Without the variable it costs one comparison.
"""

import os

import orjson

_WORD = "broken on purpose"


def _from_environment() -> str | None:
    poisoned = os.environ.get("KGL_POISON")
    if poisoned and os.environ.get("KGL_ENV", "production") == "production":
        raise ValueError("KGL_POISON is for drills; unset it, or set KGL_ENV=development")
    return poisoned or None


_poisoned = _from_environment()


def poison(event_type: str | None) -> None:
    """Break the events of this type from now on; None ends it."""
    global _poisoned
    _poisoned = event_type


def perhaps_broken(event_type: str, data: bytes) -> bytes:
    """The data of an event, broken if its type is."""
    if event_type != _poisoned:
        return data
    content = orjson.loads(data)
    number = next((name for name, value in content.items() if type(value) in (int, float)), None)
    return data if number is None else orjson.dumps({**content, number: _WORD})
