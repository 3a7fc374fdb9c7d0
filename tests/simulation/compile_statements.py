"""From SQL to a plan: common table expressions, inserts, updates, deletes, and what they return."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.simulation.compile_expressions import Row, compile_row
from tests.simulation.compile_filter import Filter
from tests.simulation.compile_select import Query, Run
from tests.simulation.compile_source import compile_source
from tests.simulation.scope import Frame, Scope, Source
from tests.simulation.sql_statements import parse
from tests.simulation.sql_tokens import Delete, Expression, Insert, NotUnderstood, Select, Update
from tests.simulation.storage import EXCLUSIVE, Table, change, lock_row
from tests.simulation.write_rows import Setters, put, set_columns

Fetch = Callable[[Frame], list[tuple[Any, ...]]]
Items = list[tuple[Expression, str | None]]


@dataclass(slots=True)
class Plan:
    """A compiled statement."""

    size: int
    run: Run
    names: list[str]
    tag: str
    changed: int


class Compiler:
    """Compiles one statement."""

    def __init__(self, schema: Mapping[str, Table]) -> None:
        self._schema = schema
        self._size = 2
        self.ctes: dict[str, tuple[Fetch, list[str]]] = {}
        self.tables: dict[int, str] = {}
        self.changed = self.slot()
        self._names: dict[int, list[str]] = {}

    def slot(self) -> int:
        """A place in the frame."""
        self._size += 1
        return self._size - 1

    def table(self, name: str) -> Table:
        if name not in self._schema:
            raise NotUnderstood(f"table {name}")
        return self._schema[name]

    def plan(self, sql: str) -> Plan:
        """The whole statement."""
        statement = parse(sql)
        run, names = self.statement(statement, None, self.changed)
        tag = {Select: "SELECT", Insert: "INSERT 0", Update: "UPDATE", Delete: "DELETE"}[type(statement)]
        return Plan(self._size, run, names, tag, self.changed)

    def statement(self, statement: Any, scope: Scope | None, changed: int) -> tuple[Run, list[str]]:
        """A statement with its common table expressions; those that write are run in any case."""
        outer = dict(self.ctes)
        forced: list[Fetch] = []
        for name, inner in statement.ctes:
            run, names = self.statement(inner, None, self.slot())
            fetch = self.once(run)
            self.ctes[name] = (fetch, names)
            if not isinstance(inner, Select):
                forced.append(fetch)
        main, names = self._main(statement, scope or Scope(None), changed)
        self.ctes = outer
        if not forced:
            return main, names

        def run_all(f: Frame) -> list[tuple[Any, ...]]:
            rows = main(f)
            for fetch in forced:
                fetch(f)
            return rows

        return run_all, names

    def once(self, run: Run) -> Fetch:
        """Run at most once for each statement."""
        slot = self.slot()

        def fetch(f: Frame) -> list[tuple[Any, ...]]:
            if f[slot] is None:
                f[slot] = run(f)
            rows: list[tuple[Any, ...]] = f[slot]
            return rows

        return fetch

    def subquery(self, statement: Any, outer: Scope) -> tuple[Run, Scope]:
        """A query within another one."""
        scope = Scope(outer)
        run, names = self.statement(statement, scope, self.slot())
        self._names[id(statement)] = names
        return run, scope

    def names(self, statement: Any, _scope: Scope) -> list[str]:
        """The columns that a query has, once it is compiled."""
        return self._names[id(statement)]

    def _main(self, statement: Any, scope: Scope, changed: int) -> tuple[Run, list[str]]:
        if isinstance(statement, Select):
            query = Query(self, statement, scope)
            return query.run, query.names
        if isinstance(statement, Insert):
            return self._insert(statement, scope, changed)
        if isinstance(statement, Update):
            return self._update(statement, scope, changed)
        return self._delete(statement, scope, changed)

    def expand(self, items: Items, scope: Scope) -> Items:
        """Stars become columns."""
        expanded: Items = []
        for expression, alias in items:
            if expression[0] != "star":
                expanded.append((expression, alias))
                continue
            for source in scope.sources:
                if expression[1] in (None, source.alias):
                    expanded += [(("column", source.alias, name), None) for name in source.columns]
        return expanded

    def name_of(self, expression: Expression, alias: str | None) -> str:
        """What a column of the result is called."""
        if alias is not None:
            return alias
        if expression[0] == "column":
            return str(expression[2])
        if expression[0] == "cast":
            return self.name_of(expression[1], None)
        return str(expression[1]) if expression[0] in ("function", "aggregate") else "?column?"

    def _returning(self, items: Items, scope: Scope) -> tuple[Row, list[str]]:
        expanded = self.expand(items, scope)
        row = compile_row(self, scope, [expression for expression, _ in expanded])
        return row, [self.name_of(expression, alias) for expression, alias in expanded]

    def _setters(self, table: Table, assignments: Sequence[tuple[str, Expression]], scope: Scope) -> Setters:
        places = [table.place[name] for name, _ in assignments]
        if any(place in index for _, index in table.unique for place in places):
            raise NotUnderstood(f"a change of a key of {table.name}")
        return set_columns(places, compile_row(self, scope, [value for _, value in assignments]))

    def _insert(self, statement: Insert, outer: Scope, changed: int) -> tuple[Run, list[str]]:
        table = self.table(statement.table)
        places = [table.place[column] for column in statement.columns]
        rows = self._rows_to_insert(statement, outer)
        target = Source(statement.alias, table.columns, self.slot())
        excluded = Source("excluded", table.columns, self.slot())
        returned, names = self._returning(statement.returning, Scope(outer, [target]))
        arbiter, nothing = None, False
        setters = self._setters(table, (), outer)
        where = Filter.compile(self, outer, None)
        if statement.conflict is not None:
            columns, assignments, condition = statement.conflict
            nothing = assignments is None
            arbiter = None if columns is None else self._arbiter(table, columns)
            both = Scope(outer, [target, excluded])
            setters = self._setters(table, assignments or (), both)
            where = Filter.compile(self, both, condition)
        missing = [place for place in range(len(table.columns)) if place not in places]

        def run(f: Frame) -> list[tuple[Any, ...]]:
            by, found = f[1], []
            stored = by.table(table.name)
            f[changed] = 0
            for row in rows(f):
                values = [None] * len(table.columns)
                for place, value in zip(places, row, strict=True):
                    values[place] = value
                for place in missing:
                    if place == table.identity:
                        values[place] = by.server.draw(table.name)
                    elif place in table.defaults:
                        values[place] = table.defaults[place](f)
                made = put(f, stored, values, arbiter, nothing, setters, where, target.slot, excluded.slot)
                if made is not None:
                    f[changed] += 1
                    f[target.slot] = made
                    found.append(returned(f))
            return found

        return run, names

    def _rows_to_insert(self, statement: Insert, outer: Scope) -> Callable[[Frame], list[Any]]:
        if statement.query is not None:
            run, _ = self.subquery(statement.query, outer)
            return run
        compiled = [compile_row(self, outer, row) for row in statement.values or ()]
        return lambda f: [row(f) for row in compiled]

    def _arbiter(self, table: Table, columns: list[str]) -> tuple[int, ...]:
        wanted = {table.place[column] for column in columns}
        for _, index in table.unique:
            if set(index) == wanted:
                return index
        raise NotUnderstood(f"no unique index of {table.name} on {columns}")

    def _changing(self, statement: Update | Delete, scope: Scope) -> tuple[Table, Source, Any, Filter]:
        table = self.table(statement.table)
        rows = compile_source(self, scope, ("table", statement.table, statement.alias))
        target = scope.sources[0]
        source = getattr(statement, "source", None)
        if source is not None:
            lefts, rights = rows, compile_source(self, scope, source)

            def joined(f: Frame) -> Any:
                for _ in lefts(f):
                    yield from rights(f)

            rows = joined
        return table, target, rows, Filter.compile(self, scope, statement.where)

    def _update(self, statement: Update, scope: Scope, changed: int) -> tuple[Run, list[str]]:
        table, target, rows, where = self._changing(statement, scope)
        setters = self._setters(table, statement.assignments, scope)
        return self._change_rows(statement, scope, changed, (table, target, rows, where), setters)

    def _delete(self, statement: Delete, scope: Scope, changed: int) -> tuple[Run, list[str]]:
        return self._change_rows(statement, scope, changed, self._changing(statement, scope), None)

    def _change_rows(
        self,
        statement: Update | Delete,
        scope: Scope,
        changed: int,
        what: tuple[Table, Source, Any, Filter],
        setters: Setters | None,
    ) -> tuple[Run, list[str]]:
        table, target, rows, where = what
        returned, names = self._returning(statement.returning, scope)
        slots = [source.slot for source in scope.sources]

        def run(f: Frame) -> list[tuple[Any, ...]]:
            by, found, at = f[1], [], target.slot
            f[changed] = 0
            stored = by.table(table.name)
            matching = rows(f) if where.opens(f) else ()
            saved = [tuple([f[slot] for slot in slots]) for _ in matching if where.matches(f)]
            for row in saved:
                for slot, value in zip(slots, row, strict=True):
                    f[slot] = value

                def still(version: Any) -> bool:
                    f[at] = version
                    return where.passes(f)

                locked = lock_row(by, f[at], EXCLUSIVE, still)
                if locked is None:
                    continue
                f[at] = locked
                made = change(by, stored, locked, None if setters is None else setters(f, locked))
                f[changed] += 1
                f[at] = locked if made is None else made
                found.append(returned(f))
            return found

        return run, names
