"""One event, settled: its results, or a dead letter. The same on every transport, and without any I/O of its own."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from loguru import logger
from pydantic import ValidationError

from kgl_client.events.module import Event, EventModule, UnknownVersion
from kgl_client.events.results import Result, ResultRefused, results_of
from kgl_client.module import CannotDo
from kgl_contracts.envelope import Envelope, EnvelopeError

Reason = Literal["unreadable", "unknown_version", "cannot_do", "handler_failed", "result_refused"]

_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a handler that raises is called for one event, and the pauses between (seconds, doubling)."""

    attempts: int = 5
    first_pause: float = 0.5
    longest_pause: float = 15.0

    def pause(self, attempt: int) -> float:
        """The pause after this attempt (from 1), with full jitter."""
        return random.uniform(0, min(self.longest_pause, self.first_pause * 2 ** (attempt - 1)))  # noqa: S311


@dataclass(frozen=True, slots=True)
class Incoming:
    """An event as it came: `headers` are CloudEvents attributes in Kafka's binary mode, `value` is its data."""

    headers: Mapping[str, str]
    value: bytes


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Why an event could not be handled; the event itself is kept beside it."""

    reason: Reason
    error: str
    attempts: int


async def settle(module: EventModule, incoming: Incoming, retry: Retry) -> tuple[Result, ...] | DeadLetter:
    """Handle an event, as often as the policy says; types that the module does not take have no results."""
    try:
        envelope = Envelope.from_headers(incoming.headers)
    except EnvelopeError as wrong:
        return DeadLetter("unreadable", str(wrong), 0)
    try:
        data = module.read(envelope.type, incoming.value)
    except ValidationError as wrong:
        places = "; ".join(f"{'/'.join(map(str, e['loc']))}: {e['msg']}" for e in wrong.errors()[:5])
        return DeadLetter("unreadable", f"{envelope.type}: {places}"[:_SHOWN], 0)
    except UnknownVersion:
        sentence = f"{envelope.type} is newer than this release; install one that knows it, then handle this again"
        return DeadLetter("unknown_version", sentence, 0)
    return () if data is None else await _attempts(module, Event(data, envelope), retry)


async def _attempts(module: EventModule, event: Event, retry: Retry) -> tuple[Result, ...] | DeadLetter:  # type: ignore[type-arg]
    attempt = 0
    while True:
        attempt += 1
        try:
            return results_of(module.name, event.envelope, await module.handle(event))
        except CannotDo as cannot:
            return DeadLetter("cannot_do", f"{cannot.code}: {cannot}"[:_SHOWN], attempt)
        except ResultRefused as refused:
            return DeadLetter("result_refused", str(refused), attempt)
        except Exception as error:
            log = logger.bind(module=module.name, event=str(event.envelope.id), attempt=attempt)
            log.opt(exception=error).warning("module.handler_failed")
            if attempt >= retry.attempts:
                return DeadLetter("handler_failed", f"{type(error).__name__}: {error}"[:_SHOWN], attempt)
            await asyncio.sleep(retry.pause(attempt))
