"""Writing one row: set its columns, or insert it and find what it conflicts with."""

from collections.abc import Callable, Sequence
from typing import Any

import asyncpg

from tests.simulation.compile_filter import Filter
from tests.simulation.scope import Frame
from tests.simulation.storage import EXCLUSIVE, Table, change, insert, lock_row

Setters = Callable[[Frame, list[Any]], list[Any]]
"""The values of the next version of a row."""


def set_columns(places: Sequence[int], values: Callable[[Frame], tuple[Any, ...]]) -> Setters:
    def made(f: Frame, version: list[Any]) -> list[Any]:
        following = list(version)
        for place, value in zip(places, values(f), strict=True):
            following[place] = value
        return following

    return made


def put(
    f: Frame,
    table: Table,
    values: list[Any],
    arbiter: tuple[int, ...] | None,
    nothing: bool,
    setters: Setters,
    where: Filter,
    target: int,
    excluded: int,
) -> Any:
    """Insert a row, or change the one that it conflicts with; None where nothing was written."""
    by = f[1]
    while True:
        made, other = insert(by, table, values, arbiter, nothing=nothing)
        if made is not None:
            return made
        if nothing or other is None:
            return None
        if other.made_by is by.work and other.made_in == by.work.statements:
            raise asyncpg.CardinalityViolationError("ON CONFLICT DO UPDATE command cannot affect row a second time")
        if lock_row(by, other, EXCLUSIVE, lambda version: False) is None:
            continue  # somebody else has changed it meanwhile: look for the conflict again
        f[target], f[excluded] = other, values
        if not (where.opens(f) and where.passes(f)):
            return None
        return change(by, table, other, setters(f, other))
