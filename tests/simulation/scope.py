"""What names in a statement refer to: the row sources of a query, and of the queries around it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.sql_tokens import Expression, NotUnderstood

Frame = list[Any]
Evaluate = Callable[[Frame], Any]
Narrow = Callable[[Sequence[Any], Frame], Sequence[Any]]


@dataclass(slots=True, eq=False)
class Source:
    """A row source that names can refer to.

    `narrowed` leaves out rows that conditions rule out before any row is looked at; never those of an `optional` one,
    which has a row of nulls where it has none.
    """

    alias: str
    columns: list[str]
    slot: int
    optional: bool = False
    narrowed: list[Narrow] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Scope:
    """The sources of one query, and of those around it.

    `outside` says that it depends on one of those around, `touched` that something has referred to one of its own.
    `conditions` are those of its joins.
    """

    outer: "Scope | None"
    sources: list[Source] = field(default_factory=list)
    conditions: list[Expression] = field(default_factory=list)
    outside: bool = False
    touched: bool = False
    gathered: "Gathered | None" = None

    def own(self, qualifier: str | None, name: str) -> Source | None:
        """The source of this query that has a column."""
        for source in self.sources:
            if (qualifier is None or source.alias == qualifier) and name in source.columns:
                return source
        return None

    def find(self, qualifier: str | None, name: str) -> tuple[int, int]:
        """Slot and place of a column."""
        scope: Scope | None = self
        passed: list[Scope] = []
        while scope is not None:
            source = scope.own(qualifier, name)
            if source is not None:
                scope.touched = True
                for inner in passed:
                    inner.outside = True
                return source.slot, source.columns.index(name)
            passed.append(scope)
            scope = scope.outer
        raise NotUnderstood(f"no column {qualifier or ''}.{name}")


@dataclass(slots=True)
class Gathered:
    """The aggregates and window functions of a query; their values stand in a slot of their own."""

    slot: int
    aggregates: list[tuple[Callable[[list[Any]], Any], Evaluate]] = field(default_factory=list)
    windows: list[tuple[str, list[Evaluate], list[tuple[Evaluate, bool]]]] = field(default_factory=list)
