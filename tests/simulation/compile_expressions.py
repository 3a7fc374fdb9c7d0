"""From parsed expressions to functions of a frame.

A frame is a list with a place for each row source of the statement: an expression reads the row that stands there
now. Place 0 has the parameters, place 1 the execution. So a query within a query sees the rows around it.
"""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tests.simulation.functions import AGGREGATES, FUNCTIONS, LENIENT, OPERATORS, cast, interval
from tests.simulation.scope import Evaluate, Frame, Scope
from tests.simulation.sql_tokens import Expression, NotUnderstood

if TYPE_CHECKING:
    from tests.simulation.compile_statements import Compiler


def compile_expression(compiler: "Compiler", scope: Scope, expression: Expression) -> Evaluate:
    """The function that evaluates an expression."""
    kind = expression[0]
    maker = _MAKERS.get(kind)
    if maker is None:
        raise NotUnderstood(f"expression {kind}")
    return maker(compiler, scope, *expression[1:])


def compile_all(compiler: "Compiler", scope: Scope, expressions: Sequence[Expression]) -> list[Evaluate]:
    return [compile_expression(compiler, scope, expression) for expression in expressions]


def _literal(_c: "Compiler", _s: Scope, value: Any) -> Evaluate:
    return lambda f: value


def _param(_c: "Compiler", _s: Scope, number: int) -> Evaluate:
    return lambda f: f[0][number]


def _interval(_c: "Compiler", _s: Scope, text: str) -> Evaluate:
    value = interval(text)
    return lambda f: value


def _column(_c: "Compiler", scope: Scope, qualifier: str | None, name: str) -> Evaluate:
    slot, place = scope.find(qualifier, name)
    return lambda f: f[slot][place]


def _binary(c: "Compiler", scope: Scope, name: str, left: Expression, right: Expression) -> Evaluate:
    first, second, operate = compile_expression(c, scope, left), compile_expression(c, scope, right), OPERATORS[name]

    def evaluate(f: Frame) -> Any:
        one, other = first(f), second(f)
        return None if one is None or other is None else operate(one, other)

    return evaluate


def _and(c: "Compiler", scope: Scope, left: Expression, right: Expression) -> Evaluate:
    first, second = compile_expression(c, scope, left), compile_expression(c, scope, right)

    def evaluate(f: Frame) -> Any:
        one = first(f)
        if one is False:
            return False
        other = second(f)
        return False if other is False else (None if one is None or other is None else True)

    return evaluate


def _or(c: "Compiler", scope: Scope, left: Expression, right: Expression) -> Evaluate:
    first, second = compile_expression(c, scope, left), compile_expression(c, scope, right)

    def evaluate(f: Frame) -> Any:
        one = first(f)
        if one is True:
            return True
        other = second(f)
        return True if other is True else (None if one is None or other is None else False)

    return evaluate


def _not(c: "Compiler", scope: Scope, inner: Expression) -> Evaluate:
    evaluate = compile_expression(c, scope, inner)

    def negated(f: Frame) -> Any:
        value = evaluate(f)
        return None if value is None else not value

    return negated


def _is_null(c: "Compiler", scope: Scope, inner: Expression) -> Evaluate:
    evaluate = compile_expression(c, scope, inner)
    return lambda f: evaluate(f) is None


def _distinct(c: "Compiler", scope: Scope, left: Expression, right: Expression) -> Evaluate:
    first, second = compile_expression(c, scope, left), compile_expression(c, scope, right)
    return lambda f: first(f) != second(f)


def _row(c: "Compiler", scope: Scope, members: list[Expression]) -> Evaluate:
    evaluates = compile_all(c, scope, members)
    return lambda f: tuple(evaluate(f) for evaluate in evaluates)


def _array(c: "Compiler", scope: Scope, members: list[Expression]) -> Evaluate:
    evaluates = compile_all(c, scope, members)
    return lambda f: [evaluate(f) for evaluate in evaluates]


def _any(c: "Compiler", scope: Scope, name: str, left: Expression, right: Expression) -> Evaluate:
    first, array, operate = compile_expression(c, scope, left), compile_expression(c, scope, right), OPERATORS[name]

    def evaluate(f: Frame) -> Any:
        one, members = first(f), array(f)
        if one is None or members is None:
            return None
        if any(operate(one, member) for member in members if member is not None):
            return True
        return None if None in members else False

    return evaluate


def _all(c: "Compiler", scope: Scope, name: str, left: Expression, right: Expression) -> Evaluate:
    first, array, operate = compile_expression(c, scope, left), compile_expression(c, scope, right), OPERATORS[name]

    def evaluate(f: Frame) -> Any:
        one, members = first(f), array(f)
        if members is None or (one is None and members):
            return None
        if not all(operate(one, member) for member in members if member is not None):
            return False
        return None if None in members else True

    return evaluate


def _cast(c: "Compiler", scope: Scope, inner: Expression, kind: str) -> Evaluate:
    evaluate, convert = compile_expression(c, scope, inner), cast(kind)
    if convert is None:
        return evaluate

    def converted(f: Frame) -> Any:
        value = evaluate(f)
        return None if value is None else convert(value)

    return converted


def _case(
    c: "Compiler", scope: Scope, branches: list[tuple[Expression, Expression]], otherwise: Expression
) -> Evaluate:
    compiled = [(compile_expression(c, scope, test), compile_expression(c, scope, then)) for test, then in branches]
    last = compile_expression(c, scope, otherwise)

    def evaluate(f: Frame) -> Any:
        for test, then in compiled:
            if test(f) is True:
                return then(f)
        return last(f)

    return evaluate


def _function(c: "Compiler", scope: Scope, name: str, arguments: list[Expression], over: Any) -> Evaluate:
    if over is not None:
        return _window(c, scope, name, over)
    if name in AGGREGATES:
        return _aggregate(c, scope, name, arguments)
    if any(argument[:2] == ("aggregate", "jsonb_agg") for argument in arguments):
        arguments = [("literal", json.loads(a[1])) if a[0] == "literal" else a for a in arguments]
    evaluates = compile_all(c, scope, arguments)
    if name in LENIENT:
        pick = LENIENT[name]
        return lambda f: pick([evaluate(f) for evaluate in evaluates])
    if name not in FUNCTIONS:
        raise NotUnderstood(f"function {name}")
    function = FUNCTIONS[name]

    def evaluate(f: Frame) -> Any:
        values = [argument(f) for argument in evaluates]
        return None if None in values else function(f[1], *values)

    return evaluate


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

_MAKERS: dict[str, Callable[..., Evaluate]] = {
    "literal": _literal,
    "param": _param,
    "interval": _interval,
    "column": _column,
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
    "aggregate": _ordered_aggregate,
    "scalar": _query("scalar"),
    "exists": _query("exists"),
    "array_of": _query("array_of"),
}
