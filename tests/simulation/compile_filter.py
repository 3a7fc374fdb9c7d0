"""From conditions to functions, and to what they say of single row sources before any row is looked at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulation.compile_expressions import compile_expression, source_of
from tests.simulation.python_code import Code
from tests.simulation.scope import Frame, Scope, Source
from tests.simulation.sql_tokens import Expression

if TYPE_CHECKING:
    from tests.simulation.compile_statements import Compiler

Test = Callable[[Frame], bool]


def conjuncts(expression: Expression | None) -> list[Expression]:
    """The parts of a condition that must all be true."""
    if expression is None:
        return []
    if expression[0] == "and":
        return conjuncts(expression[1]) + conjuncts(expression[2])
    return [expression]


@dataclass(slots=True)
class Filter:
    """A condition. `opens` is what depends on no row, looked at before any row is; `passes` is the rest of it.

    `matches` is what the rest says of rows that were narrowed already. A row that was waited for has to pass.
    """

    opens: Test
    passes: Test
    matches: Test

    @classmethod
    def compile(cls, compiler: "Compiler", scope: Scope, where: Expression | None) -> "Filter":
        """From `where`, and from what stands behind `on`."""
        code = Code()
        once: list[str] = []
        each: list[str] = []
        left: list[str] = []
        for part in [*scope.conditions, *conjuncts(where)]:
            scope.touched = False
            source = source_of(compiler, scope, code, part)
            if not scope.touched:
                once.append(source)
                continue
            each.append(source)
            if not _narrowed(compiler, scope, part):
                left.append(source)
        return cls(code.test(once), code.test(each), code.test(left))


def _narrowed(c: "Compiler", scope: Scope, part: Expression) -> bool:
    """Whether a source now gives only the rows of which this part is true."""
    if part[:2] == ("binary", "="):
        return _equal(c, scope, part[2], part[3]) or _equal(c, scope, part[3], part[2])
    if part[:2] == ("any", "="):
        return _among(c, scope, part[2], part[3])
    return False


def _equal(c: "Compiler", scope: Scope, column: Expression, value: Expression) -> bool:
    found = _target(scope, column, value)
    if found is None:
        return False
    (source, place), evaluate = found, compile_expression(c, scope, value)

    def narrow(rows: Sequence[Any], f: Frame) -> Sequence[Any]:
        wanted = evaluate(f)
        return () if wanted is None else [row for row in rows if row[place] == wanted]

    source.narrowed.append(narrow)
    return True


def _among(c: "Compiler", scope: Scope, column: Expression, values: Expression) -> bool:
    found = _target(scope, column, values)
    if found is None:
        return False
    (source, place), evaluate = found, compile_expression(c, scope, values)

    def narrow(rows: Sequence[Any], f: Frame) -> Sequence[Any]:
        wanted = [value for value in evaluate(f) or () if value is not None]
        return [row for row in rows if row[place] in wanted]

    source.narrowed.append(narrow)
    return True


def _target(scope: Scope, column: Expression, value: Expression) -> tuple[Source, int] | None:
    """The source of a column and its place there, if the value is known before the rows of that source are read."""
    source = scope.own(column[1], column[2]) if column[0] == "column" else None
    if source is None or source.optional or not _known_before(scope, source, value):
        return None
    return source, source.columns.index(column[2])


def _known_before(scope: Scope, source: Source, value: Expression) -> bool:
    kind = value[0]
    if kind == "column":
        other = scope.own(value[1], value[2])
        return other is None or scope.sources.index(other) < scope.sources.index(source)
    if kind == "cast":
        return _known_before(scope, source, value[1])
    return kind in ("param", "literal")
