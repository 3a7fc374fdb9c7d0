"""Rows as Postgres keeps them: versions with the transactions that made and ended them, and locks on them.

Isolation is READ COMMITTED. A statement sees what was committed before it began and what its own transaction did in
earlier statements. Whoever changes or locks a row waits for the one that has it, and then goes by its newest version
(`EvalPlanQual` of Postgres): the condition is looked at again, everything else of the statement stays as it was seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from tests.simulation.execution import Execution

SHARE, EXCLUSIVE = 1, 2


class Work:
    """One transaction. `commit` is its place in the order of commits, infinite until then."""

    __slots__ = ("advisory", "commit", "done", "locked", "number", "session", "started", "statements", "undo")

    def __init__(self, session: Any, number: int, started: Any) -> None:
        self.session = session
        self.number = number
        self.started = started
        self.commit: float = inf
        self.done = False
        self.statements = 0
        self.undo: list[tuple[Table, Version | None, Version]] = []
        self.locked: list[Version] = []
        self.advisory: set[object] = set()

    def has_changed(self, table: "Table") -> bool:
        return any(changed is table for changed, _, _ in self.undo)


class Version(list[Any]):
    """The values of a row from one change to the next."""

    __slots__ = ("ended_by", "ended_in", "following", "locks", "made_by", "made_in")

    def __init__(self, values: Sequence[Any], work: Work) -> None:
        super().__init__(values)
        self.made_by = work
        self.made_in = work.statements
        self.ended_by: Work | None = None
        self.ended_in = 0
        self.following: Version | None = None
        self.locks: dict[Work, int] = {}


@dataclass(slots=True)
class Table:
    """A table: `unique` are the places of the columns of each unique index, the primary key's first.

    `unsettled` counts the versions that not everybody sees, or sees still; `changes`, the transactions that changed it.
    """

    name: str
    columns: list[str]
    place: dict[str, int]
    defaults: dict[int, Callable[[Any], Any]]
    required: tuple[int, ...]
    identity: int | None
    unique: list[tuple[str, tuple[int, ...]]]
    versions: list[Version] = field(default_factory=list)
    unsettled: int = 0
    changes: int = 0

    def seen(self, by: "Execution") -> list[Version]:
        """The versions that a statement sees."""
        if not self.unsettled and by.snapshot == by.server.commits:
            return self.versions[:]
        work, until, now = by.work, by.snapshot, by.work.statements
        found = []
        for version in self.versions:
            maker = version.made_by
            if maker is work:
                if version.made_in >= now:
                    continue
            elif maker.commit > until:
                continue
            ender = version.ended_by
            if ender is not None:
                if ender is work:
                    if version.ended_in < now:
                        continue
                elif ender.commit <= until:
                    continue
            found.append(version)
        return found

    def committed(self) -> list[dict[str, Any]]:
        """The rows that everybody sees now; for checks."""
        return [dict(zip(self.columns, version, strict=True)) for version in self.living()]

    def living(self) -> list[Version]:
        """The versions that everybody sees now."""
        if not self.unsettled:
            return self.versions
        return [
            version
            for version in self.versions
            if version.made_by.commit < inf and (version.ended_by is None or version.ended_by.commit == inf)
        ]


def lock_row(
    by: "Execution", version: Version, mode: int, still: Callable[[Version], bool], *, skip_locked: bool = False
) -> Version | None:
    """Lock the newest version of a row; None if it is gone, fails the condition now, or is to be skipped."""
    work = by.work
    current = version
    while True:
        ender = current.ended_by
        if ender is work:
            return None  # this very statement has changed it before
        if ender is None:
            holder = _conflicting(current, work, mode)
            if holder is None:
                if current.locks.get(work, 0) < mode:
                    current.locks[work] = mode
                    work.locked.append(current)
                return current
        elif ender.commit < inf:
            if current.following is None or not still(current.following):
                return None
            current = current.following
            continue
        else:
            holder = ender
        if skip_locked:
            if current.locks.get(holder) == SHARE:
                by.server.uncertain()  # how many rows a query within a statement has locked is up to its plan
            return None
        by.wait_for(holder)


def _conflicting(version: Version, work: Work, mode: int) -> Work | None:
    for holder, held in version.locks.items():
        if holder is not work and (mode == EXCLUSIVE or held == EXCLUSIVE):
            return holder
    return None


def change(by: "Execution", table: Table, version: Version, values: Sequence[Any] | None) -> Version | None:
    """End a locked version, and begin the next one unless the row is deleted."""
    work = by.work
    version.ended_by, version.ended_in = work, work.statements
    following = None
    if values is not None:
        _check_required(table, values)
        following = Version(values, work)
        version.following = following
        table.versions.append(following)
    table.unsettled += 1
    work.undo.append((table, version, following))  # type: ignore[arg-type]
    return following


def insert(
    by: "Execution", table: Table, values: Sequence[Any], arbiter: tuple[int, ...] | None, *, nothing: bool
) -> tuple[Version | None, Version | None]:
    """Add a row; the answer is the new version, or the one that it conflicts with, or neither.

    `arbiter` is the unique index whose conflicts are looked for, `nothing` means all of them; a conflict with any
    other index raises. Another transaction's row that is not committed yet is waited for.
    """
    _check_required(table, values)
    while True:
        found, waits_for = _conflict(by, table, values)
        if waits_for is not None:
            by.wait_for(waits_for, in_line=False)
            continue
        if found is None:
            version = Version(values, by.work)
            table.versions.append(version)
            table.unsettled += 1
            by.work.undo.append((table, None, version))
            return version, None
        name, index, other = found
        if nothing or index == arbiter:
            return None, other
        raise asyncpg.UniqueViolationError(f'duplicate key value violates unique constraint "{name}"')


def _conflict(
    by: "Execution", table: Table, values: Sequence[Any]
) -> tuple[tuple[str, tuple[int, ...], Version] | None, Work | None]:
    """A living row with the same key in a unique index, or the transaction on which that depends."""
    for name, index in table.unique:
        if any(values[place] is None for place in index):
            continue
        same = table.versions
        for place in index:
            wanted = values[place]
            same = [version for version in same if version[place] == wanted]
        for version in same:
            maker, ender = version.made_by, version.ended_by
            if maker is not by.work and maker.commit == inf:
                return None, maker
            if ender is None:
                return (name, index, version), None
            if ender is not by.work and ender.commit == inf:
                return None, ender
    return None, None


def _check_required(table: Table, values: Sequence[Any]) -> None:
    for place in table.required:
        if values[place] is None:
            raise asyncpg.NotNullViolationError(f'null value in column "{table.columns[place]}" of "{table.name}"')


def undo(work: Work) -> None:
    """Take back what a transaction did."""
    for table, old, new in reversed(work.undo):
        table.unsettled -= 1
        if new is not None:
            table.versions = [version for version in table.versions if version is not new]
        if old is not None:
            old.ended_by = old.following = None


def unlock(work: Work) -> None:
    """Let go of all row locks."""
    for version in work.locked:
        version.locks.pop(work, None)


def settle(work: Work) -> list[tuple[Table, Version]]:
    """The transaction is committed; the answer is the versions that it has ended."""
    ended = []
    for table in {id(table): table for table, _, _ in work.undo}.values():
        table.changes += 1
    for table, old, _ in work.undo:
        if old is None:
            table.unsettled -= 1
        else:
            ended.append((table, old))
    return ended


def forget(ended: Sequence[tuple[Table, Version]]) -> None:
    """Leave out versions that no statement can see any more."""
    tables = {id(table): table for table, _ in ended}
    gone = {id(version) for _, version in ended}
    for table in tables.values():
        table.versions = [version for version in table.versions if id(version) not in gone]
    for table, _ in ended:
        table.unsettled -= 1
