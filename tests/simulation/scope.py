"""What names in a statement refer to: the row sources of a query, and of the queries around it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.sql_tokens import NotUnderstood

Frame = list[Any]
Evaluate = Callable[[Frame], Any]


@dataclass(slots=True)
class Source:
    """A row source that names can refer to."""

    alias: str
    columns: list[str]
    slot: int


@dataclass(slots=True, eq=False)
class Scope:
    """The sources of one query, and of those around it.

    `outside` says that it depends on one of those around, `touched` that something has referred to one of its own.
    """

    outer: "Scope | None"
    sources: list[Source] = field(default_factory=list)
    outside: bool = False
    touched: bool = False
    gathered: "Gathered | None" = None

    def find(self, qualifier: str | None, name: str) -> tuple[int, int]:
        """Slot and place of a column."""
        scope: Scope | None = self
        passed: list[Scope] = []
        while scope is not None:
            for source in scope.sources:
                if (qualifier is None or source.alias == qualifier) and name in source.columns:
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
