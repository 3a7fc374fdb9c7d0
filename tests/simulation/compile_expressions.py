"""From parsed expressions to functions of a frame.

A frame is a list with a place for each row source of the statement: an expression reads the row that stands there
now. Place 0 has the parameters, place 1 the execution. So a query within a query sees the rows around it.
"""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tests.simulation.functions import AGGREGATES, FUNCTIONS, LENIENT, OPERATORS, cast, interval
from tests.simulation.python_code import Code, tuple_of
from tests.simulation.scope import Evaluate, Frame, Scope
from tests.simulation.sql_tokens import Expression, NotUnderstood

if TYPE_CHECKING:
    from tests.simulation.compile_statements import Compiler

Source = Callable[[Expression], str]
Row = Callable[[Frame], tuple[Any, ...]]


def compile_expression(c: "Compiler", scope: Scope, expression: Expression) -> Evaluate:
    """The function that evaluates an expression."""
    code = Code()
    return code.evaluate(source_of(c, scope, code, expression))


def compile_all(c: "Compiler", scope: Scope, expressions: Sequence[Expression]) -> list[Evaluate]:
    return [compile_expression(c, scope, expression) for expression in expressions]


def compile_row(c: "Compiler", scope: Scope, row: Sequence[Expression]) -> Row:
    """The function that makes a row."""
    code = Code()
    return code.row([source_of(c, scope, code, expression) for expression in row])


def source_of(c: "Compiler", scope: Scope, code: Code, expression: Expression) -> str:
    """Python source for an expression."""
    kind = expression[0]
    if kind == "column":
        slot, place = scope.find(*expression[1:])
        return f"f[{slot}][{place}]"
    plain = kind == "function" and expression[3] is None and expression[1] not in AGGREGATES
    if kind in _NESTED and not plain:
        return code.call(_NESTED[kind](c, scope, *expression[1:]), "f")
    if kind not in _MAKERS:
        raise NotUnderstood(f"expression {kind}")
    return _MAKERS[kind](lambda part: source_of(c, scope, code, part), code, *expression[1:])


def _literal(_: Source, code: Code, value: Any) -> str:
    return code.value(value)


def _param(_: Source, _code: Code, number: int) -> str:
    return f"f[0][{number}]"


def _interval(_: Source, code: Code, text: str) -> str:
    return code.value(interval(text))


_SIGNS = {"=": "==", "<>": "!=", "<": "<", ">": ">", "<=": "<=", ">=": ">="}


def _binary(of: Source, code: Code, name: str, left: Expression, right: Expression) -> str:
    if name in _SIGNS:
        return code.strict([of(left), of(right)], lambda one, other: f"{one} {_SIGNS[name]} {other}")
    return code.strict([of(left), of(right)], lambda one, other: code.call(OPERATORS[name], one, other))


def _and(of: Source, code: Code, left: Expression, right: Expression) -> str:
    return _decided(of, code, left, right, "False", "True")


def _or(of: Source, code: Code, left: Expression, right: Expression) -> str:
    return _decided(of, code, left, right, "True", "False")


def _decided(of: Source, code: Code, left: Expression, right: Expression, by: str, otherwise: str) -> str:
    """One value of either decides; else it is null if one of them is null."""
    one, other = code.name(), code.name()
    return (
        f"({by} if ({one} := {of(left)}) is {by} or ({other} := {of(right)}) is {by}"
        f" else None if {one} is None or {other} is None else {otherwise})"
    )


def _not(of: Source, code: Code, inner: Expression) -> str:
    return code.strict([of(inner)], lambda value: f"not {value}")


def _is_null(of: Source, _code: Code, inner: Expression) -> str:
    return f"({of(inner)} is None)"


def _distinct(of: Source, _code: Code, left: Expression, right: Expression) -> str:
    return f"({of(left)} != {of(right)})"


def _row(of: Source, _code: Code, members: list[Expression]) -> str:
    return tuple_of([of(member) for member in members])


def _array(of: Source, _code: Code, members: list[Expression]) -> str:
    return f"[{', '.join(of(member) for member in members)}]"


def _any(of: Source, code: Code, name: str, left: Expression, right: Expression) -> str:
    operate = OPERATORS[name]

    def test(one: Any, members: Sequence[Any]) -> bool | None:
        if any(operate(one, member) for member in members if member is not None):
            return True
        return None if None in members else False

    return code.strict([of(left), of(right)], lambda one, members: code.call(test, one, members))


def _all(of: Source, code: Code, name: str, left: Expression, right: Expression) -> str:
    operate = OPERATORS[name]

    def test(one: Any, members: Sequence[Any] | None) -> bool | None:
        if members is None or (one is None and members):
            return None
        if not all(operate(one, member) for member in members if member is not None):
            return False
        return None if None in members else True

    return code.call(test, of(left), of(right))


def _cast(of: Source, code: Code, inner: Expression, kind: str) -> str:
    convert = cast(kind)
    return of(inner) if convert is None else code.strict([of(inner)], lambda value: code.call(convert, value))


def _case(of: Source, _code: Code, branches: list[tuple[Expression, Expression]], otherwise: Expression) -> str:
    tests = "".join(f"{of(then)} if {of(test)} is True else " for test, then in branches)
    return f"({tests}{of(otherwise)})"


def _function(of: Source, code: Code, name: str, arguments: list[Expression], _over: None) -> str:
    if any(argument[:2] == ("aggregate", "jsonb_agg") for argument in arguments):
        arguments = [("literal", json.loads(a[1])) if a[0] == "literal" else a for a in arguments]
    sources = [of(argument) for argument in arguments]
    if name in LENIENT:
        return code.call(LENIENT[name], f"[{', '.join(sources)}]")
    if name not in FUNCTIONS:
        raise NotUnderstood(f"function {name}")
    return code.strict(sources, lambda *values: code.call(FUNCTIONS[name], "f[1]", *values))


def _calculated(c: "Compiler", scope: Scope, name: str, arguments: list[Expression], over: Any) -> Evaluate:
    return _aggregate(c, scope, name, arguments) if over is None else _window(c, scope, name, over)


def _aggregate(c: "Compiler", scope: Scope, name: str, arguments: list[Expression]) -> Evaluate:
    if scope.gathered is None:
        raise NotUnderstood(f"{name} in a place without groups")
    argument = arguments[0]
    evaluate = (lambda f: True) if argument[0] == "star" else compile_expression(c, scope, argument)
    slot, place = scope.gathered.slot, len(scope.gathered.aggregates)
    scope.gathered.aggregates.append((AGGREGATES[name], evaluate))
    return lambda f: f[slot][0][place]


def _ordered_aggregate(
    c: "Compiler",
    scope: Scope,
    name: str,
    arguments: list[Expression],
    order: list[tuple[Expression, bool]],
    condition: Expression | None,
) -> Evaluate:
    """An aggregate over the rows that meet a condition, in an order."""
    if scope.gathered is None or any(down for _, down in order):
        raise NotUnderstood(f"{name} in a place without groups, or downwards")
    value = compile_expression(c, scope, arguments[0])
    keys = compile_all(c, scope, [key for key, _ in order])
    test = None if condition is None else compile_expression(c, scope, condition)
    slot, place, finish = scope.gathered.slot, len(scope.gathered.aggregates), AGGREGATES[name]

    def evaluate(f: Frame) -> Any:
        return None if test is not None and test(f) is not True else ([key(f) for key in keys], value(f))

    def finished(entries: list[Any]) -> Any:
        chosen = sorted((entry for entry in entries if entry is not None), key=lambda entry: entry[0])
        return finish([entry[1] for entry in chosen])

    scope.gathered.aggregates.append((finished, evaluate))
    return lambda f: f[slot][0][place]


def _window(c: "Compiler", scope: Scope, name: str, over: Any) -> Evaluate:
    if scope.gathered is None or name not in ("count", "row_number"):
        raise NotUnderstood(f"{name} over a window")
    partition, order = over
    slot, place = scope.gathered.slot, len(scope.gathered.windows)
    keys = [(compile_expression(c, scope, key), down) for key, down in order]
    scope.gathered.windows.append((name, compile_all(c, scope, partition), keys))
    return lambda f: f[slot][1][place]


def _query(kind: str) -> Callable[..., Evaluate]:
    """A query in an expression. One that depends on nothing around it is run once for each statement."""

    def make(c: "Compiler", scope: Scope, query: Any) -> Evaluate:
        run, inner = c.subquery(query, scope)
        take = _TAKE[kind]
        if inner.outside:
            return lambda f: take(run(f))
        slot = c.slot()

        def once(f: Frame) -> Any:
            if f[slot] is None:
                f[slot] = (take(run(f)),)
            return f[slot][0]

        return once

    return make


def _single(rows: list[Any]) -> Any:
    if len(rows) > 1:
        raise NotUnderstood("more than one row where one value is wanted")
    return rows[0][0] if rows else None


_TAKE: dict[str, Callable[[list[Any]], Any]] = {
    "scalar": _single,
    "exists": bool,
    "array_of": lambda rows: [row[0] for row in rows],
}

_NESTED: dict[str, Callable[..., Evaluate]] = {
    "function": _calculated,
    "aggregate": _ordered_aggregate,
    "scalar": _query("scalar"),
    "exists": _query("exists"),
    "array_of": _query("array_of"),
}
"""What gathers rows, or asks for others."""

_MAKERS: dict[str, Callable[..., str]] = {
    "literal": _literal,
    "param": _param,
    "interval": _interval,
    "binary": _binary,
    "and": _and,
    "or": _or,
    "not": _not,
    "is_null": _is_null,
    "distinct": _distinct,
    "row": _row,
    "array": _array,
    "any": _any,
    "all": _all,
    "cast": _cast,
    "case": _case,
    "function": _function,
}
