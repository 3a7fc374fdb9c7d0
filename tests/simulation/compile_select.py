"""From a parsed query to a function that runs it: join, filter, group, sort, lock, limit."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tests.simulation.compile_expressions import compile_expression, compile_row, source_of
from tests.simulation.compile_filter import Filter
from tests.simulation.compile_source import Scan, compile_source
from tests.simulation.python_code import Code
from tests.simulation.scope import Frame, Gathered, Scope
from tests.simulation.sql_tokens import NotUnderstood, Select
from tests.simulation.storage import EXCLUSIVE, SHARE, lock_row

if TYPE_CHECKING:
    from tests.simulation.compile_statements import Compiler

Run = Callable[[Frame], list[tuple[Any, ...]]]
Saved = tuple[Any, ...]


def sort_key(value: Any) -> tuple[bool, Any]:
    """Nulls come last."""
    return (value is None, 0 if value is None else value)


def _sort(rows: list[Any], keys: Callable[[Any], Sequence[Any]], downs: Sequence[bool]) -> None:
    for place in range(len(downs) - 1, -1, -1):
        rows.sort(key=lambda row: sort_key(keys(row)[place]), reverse=downs[place])


class Query:
    """A compiled select."""

    def __init__(self, c: "Compiler", select: Select, scope: Scope) -> None:
        self.rows = compile_source(c, scope, select.source) if select.source is not None else None
        self.slots = [source.slot for source in scope.sources]
        self.filter = Filter.compile(c, scope, select.where)
        self.gathered = scope.gathered = Gathered(c.slot())
        items = c.expand(select.items, scope)
        self.names = [c.name_of(expression, alias) for expression, alias in items]
        code = Code()
        sources = [source_of(c, scope, code, expression) for expression, _ in items]
        self.items = [code.evaluate(source) for source in sources]
        self.item = code.row(sources)
        aliases = {alias: evaluate for (_, alias), evaluate in zip(items, self.items, strict=True) if alias}
        self.order = [
            aliases[key[2]]
            if key[0] == "column" and key[1] is None and key[2] in aliases
            else compile_expression(c, scope, key)
            for key, _ in select.order
        ]
        self.downs = [down for _, down in select.order]
        self.group = [
            self.items[key[1] - 1] if key[0] == "literal" else compile_expression(c, scope, key) for key in select.group
        ]
        self.distinct = select.distinct
        self.distinct_on = compile_row(c, scope, select.distinct_on) if select.distinct_on else None
        self.limit = None if select.limit is None else compile_expression(c, scope, select.limit)
        self.mode, self.locked, self.skip = self._locking(c, select, scope)
        self.plain = not (
            self.order
            or self.group
            or self.distinct
            or self.distinct_on
            or self.limit
            or self.locked
            or self.gathered.aggregates
            or self.gathered.windows
        )

    def _locking(self, c: "Compiler", select: Select, scope: Scope) -> tuple[int, list[int], bool]:
        if select.locking is None:
            return 0, [], False
        mode, aliases, skip = select.locking
        if self.group or self.distinct or self.gathered.aggregates:
            raise NotUnderstood("locking rows of groups")
        chosen = [s for s in scope.sources if s.slot in c.tables and (aliases is None or s.alias in aliases)]
        return (EXCLUSIVE if mode == "update" else SHARE), [source.slot for source in chosen], skip

    def run(self, f: Frame) -> list[tuple[Any, ...]]:
        """The rows of the query."""
        if self.plain:
            return self._plain(f)
        saved = self._matching(f)
        if self.gathered.aggregates or self.group:
            return self._limited(f, self._grouped(f, saved))
        ordered: Sequence[tuple[Saved, Sequence[Any]]]
        if self.gathered.windows:
            ordered = list(zip(saved, self._windows(f, saved), strict=True))
        else:
            ordered = [(row, ()) for row in saved]
        if self.order and len(ordered) > 1:
            keyed = [([key(f) for key in self.order], entry) for entry in ordered if self._restore(f, *entry)]
            _sort(keyed, lambda entry: entry[0], self.downs)
            ordered = [entry for _, entry in keyed]
        return self._taken(f, ordered)

    def _plain(self, f: Frame) -> list[tuple[Any, ...]]:
        """Without order, locks or groups."""
        if not self.filter.opens(f):
            return []
        item, matches = self.item, self.filter.matches
        if self.rows is None:
            return [item(f)]
        if not isinstance(self.rows, Scan):
            return [item(f) for _ in self.rows(f) if matches(f)]
        slot, found = self.rows.source.slot, []
        for row in self.rows.rows(f):
            f[slot] = row
            if matches(f):
                found.append(item(f))
        return found

    def _matching(self, f: Frame) -> list[Saved]:
        """What stands in the slots of the sources, for each row that meets the condition."""
        if not self.filter.opens(f):
            return []
        if self.rows is None:
            return [()]
        slots, matches = self.slots, self.filter.matches
        return [tuple([f[slot] for slot in slots]) for _ in self.rows(f) if matches(f)]

    def _restore(self, f: Frame, saved: Saved, windows: Sequence[Any]) -> bool:
        for slot, row in zip(self.slots, saved, strict=True):
            f[slot] = row
        f[self.gathered.slot] = ((), windows)
        return True

    def _taken(self, f: Frame, ordered: Sequence[tuple[Saved, Sequence[Any]]]) -> list[tuple[Any, ...]]:
        """Lock the rows one after the other, as far as the limit goes."""
        most = None if self.limit is None else self.limit(f)
        found: list[tuple[Any, ...]] = []
        seen = set()
        for saved, windows in ordered:
            if most is not None and len(found) >= most:
                break
            self._restore(f, saved, windows)
            if self.locked and not self._lock(f):
                continue
            row = self.item(f)
            if self.distinct or self.distinct_on:
                key = self.distinct_on(f) if self.distinct_on else row
                if key in seen:
                    continue
                seen.add(key)
            found.append(row)
        return found

    def _lock(self, f: Frame) -> bool:
        for slot in self.locked:

            def still(version: Any, slot: int = slot) -> bool:
                f[slot] = version
                return self.filter.passes(f)

            locked = lock_row(f[1], f[slot], self.mode, still, skip_locked=self.skip)
            if locked is None:
                return False
            f[slot] = locked
        return True

    def _grouped(self, f: Frame, saved: list[Saved]) -> list[tuple[list[Any], tuple[Any, ...]]]:
        groups: dict[tuple[Any, ...], list[Saved]] = {} if self.group else {(): []}
        for row in saved:
            self._restore(f, row, ())
            groups.setdefault(tuple([key(f) for key in self.group]), []).append(row)
        found = []
        for rows in groups.values():
            values: list[list[Any]] = [[] for _ in self.gathered.aggregates]
            for row in rows:
                self._restore(f, row, ())
                for gathered, (_, evaluate) in zip(values, self.gathered.aggregates, strict=True):
                    gathered.append(evaluate(f))
            results = [finish(v) for v, (finish, _) in zip(values, self.gathered.aggregates, strict=True)]
            f[self.gathered.slot] = (results, ())
            found.append(([key(f) for key in self.order], self.item(f)))
        return found

    def _limited(self, f: Frame, found: list[tuple[list[Any], tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
        _sort(found, lambda entry: entry[0], self.downs)
        rows = [row for _, row in found]
        return rows if self.limit is None else rows[: self.limit(f)]

    def _windows(self, f: Frame, saved: list[Saved]) -> list[list[Any]]:
        results: list[list[Any]] = [[] for _ in saved]
        for name, partition, order in self.gathered.windows:
            parts: dict[tuple[Any, ...], list[tuple[list[Any], int]]] = {}
            for number, row in enumerate(saved):
                self._restore(f, row, ())
                entry = ([key(f) for key, _ in order], number)
                parts.setdefault(tuple([key(f) for key in partition]), []).append(entry)
            for rows in parts.values():
                _sort(rows, lambda entry: entry[0], [down for _, down in order])
                for place, (_, number) in enumerate(rows):
                    results[number].append(len(rows) if name == "count" else place + 1)
        return results
