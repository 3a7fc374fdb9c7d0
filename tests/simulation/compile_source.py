"""From what stands behind `from` to functions that give the rows, one by one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulation.compile_expressions import compile_all, source_of
from tests.simulation.compile_filter import conjuncts
from tests.simulation.python_code import Code
from tests.simulation.scope import Frame, Scope, Source
from tests.simulation.sql_tokens import Expression, NotUnderstood

if TYPE_CHECKING:
    from tests.simulation.compile_statements import Compiler

Rows = Callable[[Frame], Iterator[None]]
Fetch = Callable[[Frame], Sequence[Any]]


@dataclass(slots=True)
class Scan:
    """One table, function or query: its rows stand in one slot of the frame, one after the other."""

    source: Source
    fetch: Fetch

    def rows(self, f: Frame) -> Sequence[Any]:
        """Those that no condition rules out by what is known before."""
        found = self.fetch(f)
        for narrow in self.source.narrowed:
            if not found:
                break
            found = narrow(found, f)
        return found

    def __call__(self, f: Frame) -> Iterator[None]:
        slot = self.source.slot
        for row in self.rows(f):
            f[slot] = row
            yield


def compile_source(c: "Compiler", scope: Scope, node: Any) -> Rows:
    """The rows of what stands behind from; each step sets the frame's slots.

    What joins say goes to the conditions of the scope, which have to be compiled with `where`.
    """
    return _join(c, scope, *node[1:]) if node[0] == "join" else _scan(c, scope, node)


def _scan(c: "Compiler", scope: Scope, node: Any) -> Scan:
    if node[0] == "table":
        return _table(c, scope, node[1], node[2])
    if node[0] == "function":
        return _unnest(c, scope, *node[1:])
    run, inner = c.subquery(node[1], scope)
    fetch = run if inner.outside else c.once(run)
    return _added(scope, Source(node[2], c.names(node[1], inner), c.slot()), fetch)


def _added(scope: Scope, source: Source, fetch: Fetch) -> Scan:
    scope.sources.append(source)
    return Scan(source, fetch)


def _table(c: "Compiler", scope: Scope, name: str, alias: str) -> Scan:
    slot = c.slot()
    if name in c.ctes:
        fetch, columns = c.ctes[name]
        return _added(scope, Source(alias, columns, slot), fetch)
    c.tables[slot] = alias
    return _added(scope, Source(alias, c.table(name).columns, slot), lambda f: f[1].seen(name))


def _unnest(
    c: "Compiler",
    scope: Scope,
    name: str,
    arguments: list[Expression],
    ordinality: bool,
    alias: str,
    columns: list[str],
) -> Scan:
    if name != "unnest":
        raise NotUnderstood(f"rows of {name}")
    evaluates = compile_all(c, scope, arguments)

    def fetch(f: Frame) -> list[Any]:
        rows = zip(*[evaluate(f) for evaluate in evaluates], strict=True)
        return [(*row, place) for place, row in enumerate(rows, 1)] if ordinality else list(rows)

    return _added(scope, Source(alias, columns or [f"unnest{n}" for n in range(len(arguments))], c.slot()), fetch)


def _join(
    c: "Compiler", scope: Scope, kind: str, left: Any, right: Any, on: Expression | None, using: list[str] | None
) -> Rows:
    lefts = compile_source(c, scope, left)
    rights = _scan(c, scope, right)
    conditions = conjuncts(on)
    for column in using or ():
        one = next(source.alias for source in scope.sources[:-1] if column in source.columns)
        conditions.append(("binary", "=", ("column", one, column), ("column", rights.source.alias, column)))
    if kind == "left":
        return _left_join(c, scope, lefts, rights, conditions)
    scope.conditions += conditions

    def rows(f: Frame) -> Iterator[None]:
        for _ in lefts(f):
            yield from rights(f)

    return rows


def _left_join(c: "Compiler", scope: Scope, lefts: Rows, rights: Scan, conditions: list[Expression]) -> Rows:
    rights.source.optional = True
    code = Code()
    matches = code.test([source_of(c, scope, code, condition) for condition in conditions])
    slot, nothing = rights.source.slot, [None] * len(rights.source.columns)

    def rows(f: Frame) -> Iterator[None]:
        for _ in lefts(f):
            matched = False
            for _ in rights(f):
                if matches(f):
                    matched = True
                    yield
            if not matched:
                f[slot] = nothing
                yield

    return rows
