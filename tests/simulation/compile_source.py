"""From what stands behind `from` and `where` to functions that give the rows, one by one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulation.compile_expressions import compile_all, compile_expression
from tests.simulation.scope import Evaluate, Frame, Scope, Source
from tests.simulation.sql_tokens import Expression, NotUnderstood

if TYPE_CHECKING:
    from tests.simulation.compile_statements import Compiler

Rows = Callable[[Frame], Iterator[None]]


def conjuncts(expression: Expression | None) -> list[Expression]:
    """The parts of a condition that must all be true."""
    if expression is None:
        return []
    if expression[0] == "and":
        return conjuncts(expression[1]) + conjuncts(expression[2])
    return [expression]


@dataclass(slots=True)
class Filter:
    """A condition: what depends on no row is looked at once, before any row is."""

    once: list[Evaluate]
    each: list[Evaluate]

    @classmethod
    def compile(cls, compiler: "Compiler", scope: Scope, where: Expression | None) -> "Filter":
        made = cls([], [])
        for part in conjuncts(where):
            scope.touched = False
            evaluate = compile_expression(compiler, scope, part)
            (made.each if scope.touched else made.once).append(evaluate)
        return made

    def opens(self, f: Frame) -> bool:
        for evaluate in self.once:  # noqa: SIM110 - a third faster than `all`, and this is half of all time
            if evaluate(f) is not True:
                return False
        return True

    def passes(self, f: Frame) -> bool:
        for evaluate in self.each:  # noqa: SIM110
            if evaluate(f) is not True:
                return False
        return True


def compile_source(c: "Compiler", scope: Scope, node: Any) -> Rows:
    """The rows of what stands behind from; each step sets the frame's slots."""
    kind = node[0]
    if kind == "join":
        return _join(c, scope, *node[1:])
    if kind == "table":
        return _table(c, scope, node[1], node[2])
    if kind == "function":
        return _unnest(c, scope, *node[1:])
    run, inner = c.subquery(node[1], scope)
    slot = c.slot()
    scope.sources.append(Source(node[2], c.names(node[1], inner), slot))

    def rows(f: Frame) -> Iterator[None]:
        for row in run(f):
            f[slot] = row
            yield

    return rows


def _table(c: "Compiler", scope: Scope, name: str, alias: str) -> Rows:
    slot = c.slot()
    if name in c.ctes:
        fetch, columns = c.ctes[name]
        scope.sources.append(Source(alias, columns, slot))

        def common(f: Frame) -> Iterator[None]:
            for row in fetch(f):
                f[slot] = row
                yield

        return common
    scope.sources.append(Source(alias, c.table(name).columns, slot))
    c.tables[slot] = alias

    def rows(f: Frame) -> Iterator[None]:
        for version in f[1].seen(name):
            f[slot] = version
            yield

    return rows


def _unnest(
    c: "Compiler",
    scope: Scope,
    name: str,
    arguments: list[Expression],
    ordinality: bool,
    alias: str,
    columns: list[str],
) -> Rows:
    if name != "unnest":
        raise NotUnderstood(f"rows of {name}")
    evaluates, slot = compile_all(c, scope, arguments), c.slot()
    scope.sources.append(Source(alias, columns or [f"unnest{n}" for n in range(len(arguments))], slot))

    def rows(f: Frame) -> Iterator[None]:
        arrays = [evaluate(f) for evaluate in evaluates]
        for place, row in enumerate(zip(*arrays, strict=True)):
            f[slot] = (*row, place + 1) if ordinality else row
            yield

    return rows


def _join(
    c: "Compiler", scope: Scope, kind: str, left: Any, right: Any, on: Expression | None, using: list[str] | None
) -> Rows:
    lefts = compile_source(c, scope, left)
    before = len(scope.sources)
    rights = compile_source(c, scope, right)
    added = scope.sources[before:]
    condition = on
    for column in using or ():
        one = next(source.alias for source in scope.sources[:before] if column in source.columns)
        other = next(source.alias for source in added if column in source.columns)
        equal: Expression = ("binary", "=", ("column", one, column), ("column", other, column))
        condition = equal if condition is None else ("and", condition, equal)
    matches = None if condition is None else compile_expression(c, scope, condition)
    empty = [(source.slot, [None] * len(source.columns)) for source in added]

    def rows(f: Frame) -> Iterator[None]:
        for _ in lefts(f):
            matched = False
            for _ in rights(f):
                if matches is None or matches(f) is True:
                    matched = True
                    yield
            if not matched and kind == "left":
                for slot, nothing in empty:
                    f[slot] = nothing
                yield

    return rows
