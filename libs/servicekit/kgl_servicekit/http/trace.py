"""W3C Trace Context: the trace that a request belongs to, continued or begun."""

import re
import secrets
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace and our span in it, in lower-case hex."""

    trace_id: str
    span_id: str
    flags: str = "01"

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def trace_of(traceparent: str | None) -> Trace:
    """Our span in the caller's trace; in a new one when the header is missing or malformed."""
    span = secrets.token_hex(8)
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if found is None:
        return Trace(secrets.token_hex(16), span)
    version, trace_id, parent, flags, more = found.groups()
    unusable = version == "ff" or not int(trace_id, 16) or not int(parent, 16) or (version == "00" and more)
    return Trace(secrets.token_hex(16), span) if unusable else Trace(trace_id, span, flags)
