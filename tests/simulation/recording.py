"""What a schedule asked of the simulated database, step by step, so that the real one can be asked the same."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tests.simulation.execution import Answer
from tests.simulation.server import Server, Session


@dataclass(slots=True)
class Event:
    """A session began a statement (`outcome` None: it waits), one that waited ended, or the session was closed.

    `began` is when its transaction did, `at` the time of the statement.
    """

    kind: Literal["start", "end", "close"]
    session: str
    sql: str = ""
    args: tuple[Any, ...] = ()
    outcome: Answer | Exception | None = None
    at: datetime | None = None
    began: datetime | None = None


@dataclass(slots=True)
class Recording:
    """All events of a schedule. Watches the sessions of a server."""

    events: list[Event] = field(default_factory=list)
    over: bool = False

    def watch(self, server: Server) -> None:
        server.on_statement = self._statement
        server.on_close = self._close
        server.on_uncertain = self._end

    def _end(self) -> None:
        """Several wake at once, or the plan decides: from here on all may be different on a real server."""
        self.over = True

    def _statement(self, session: Session, kind: Literal["start", "end"], sql: str, args: Any) -> None:
        if self.over:
            return
        server = session.server
        began = session.work.started if session.work is not None else server.now()
        outcome = None if session.busy else session.peek()
        self.events.append(Event(kind, session.name, sql, tuple(args), outcome, server.now(), began))

    def _close(self, session: Session) -> None:
        if not self.over:
            self.events.append(Event("close", session.name))
