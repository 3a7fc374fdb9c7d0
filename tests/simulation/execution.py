"""One statement on its way through the simulated server, and what it gives."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from tests.simulation.storage import Table, Version, Work

if TYPE_CHECKING:
    from tests.simulation.server import Server, Session


class Answer:
    """What a statement gives: rows under names, and the command's tag."""

    __slots__ = ("names", "rows", "tag")

    def __init__(self, rows: list[tuple[Any, ...]], names: Sequence[str], tag: str) -> None:
        self.rows = rows
        self.names = names
        self.tag = tag

    def __repr__(self) -> str:
        return f"{self.tag} {[list(map(_brief, row)) for row in self.rows] if any(self.rows) else ''}"


def _brief(value: Any) -> Any:
    return str(value) if isinstance(value, (datetime, UUID)) else value


class Execution:
    """One statement on its way: what it sees, and whom it waits for."""

    __slots__ = ("_seen", "server", "session", "snapshot", "work")

    def __init__(self, server: "Server", session: "Session", work: Work) -> None:
        self.server = server
        self.session = session
        self.work = work
        self.snapshot = server.commits
        self._seen: dict[str, list[Version]] = {}

    def table(self, name: str) -> Table:
        return self.server.tables[name]

    def seen(self, name: str) -> list[Version]:
        """The rows of a table that this statement sees, as a list."""
        if name not in self._seen:
            self._seen[name] = self.server.tables[name].seen(self)
        return self._seen[name]

    def wait_for(self, other: Work, *, in_line: bool = True) -> None:
        """Stop until another transaction has ended; raises DeadlockDetectedError.

        Those that wait for a row go on in line on a real server; those that wait for the key of a new row, all at once.
        """
        session = self.session
        session.in_line = in_line
        session.waits_for = other
        victim = self.server.deadlocked(session)
        if victim is session:
            session.waits_for = None
            raise asyncpg.DeadlockDetectedError("deadlock detected")
        if victim is not None:
            victim.condemned = True
        session.parent.switch(None)
        session.waits_for = None
        if session.condemned:
            session.condemned = False
            raise asyncpg.DeadlockDetectedError("deadlock detected")

    def lock_advisory(self, key: object) -> str:
        while (holder := self.server.advisory.get(key)) is not None and holder is not self.work:
            self.wait_for(holder)
        self.server.advisory[key] = self.work
        self.work.advisory.add(key)
        return ""

    def try_advisory(self, key: object) -> bool:
        if self.server.advisory.get(key, self.work) is not self.work:
            return False
        self.lock_advisory(key)
        return True
