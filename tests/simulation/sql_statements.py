"""Reading statements: select, insert, update and delete, each with its common table expressions."""

from collections.abc import Callable
from typing import Any

from tests.simulation.sql_expressions import Expressions
from tests.simulation.sql_tokens import Delete, Expression, Insert, NotUnderstood, Select, Statement, Update, Words

_AFTER_TABLE = frozenset(
    (
        *("where", "join", "cross", "left", "inner", "on", "using", "group", "order", "limit", "for", "set"),
        *("values", "select", "returning", "from", "as", "union"),
    )
)


def parse(sql: str) -> Statement:
    """Read one statement; raises NotUnderstood for anything that is not known."""
    words = Words(sql)
    statement = _statement(words)
    words.take(";")
    if words.kind() != "end":
        raise words.wrong("the end")
    return statement


def parse_expression(sql: str) -> Expression:
    """Read one expression, as a column's default is."""
    return Expressions(Words(sql), _statement).expression()


def _statement(words: Words) -> Statement:
    ctes: list[tuple[str, Any]] = []
    if words.take("with"):
        while True:
            name = words.name()
            words.expect("as", "(")
            ctes.append((name, _statement(words)))
            words.expect(")")
            if not words.take(","):
                break
    readers: dict[str, Callable[[Words], Statement]] = {
        "select": _select,
        "insert": _insert,
        "update": _update,
        "delete": _delete,
    }
    if words.peek() not in readers:
        raise words.wrong("a statement")
    statement = readers[words.next().text](words)
    statement.ctes = ctes
    return statement


def _items(words: Words, expressions: Expressions) -> list[tuple[Expression, str | None]]:
    """What a select or a returning gives; `select from` gives no columns."""
    if words.peek() in ("from", "where", ")", ";"):
        return []
    items = []
    while True:
        expression, alias = expressions.expression(), None
        if words.take("as") or (words.kind() == "name" and words.peek() not in _AFTER_TABLE):
            alias = words.name()
        items.append((expression, alias))
        if not words.take(","):
            return items


def _select(words: Words) -> Select:
    expressions = Expressions(words, _statement)
    distinct, distinct_on = False, []
    if words.take("distinct", "on"):
        words.expect("(")
        distinct_on = expressions.several()
        words.expect(")")
    elif words.take("distinct"):
        distinct = True
    select = Select(_items(words, expressions), distinct=distinct, distinct_on=distinct_on)
    if words.take("from"):
        select.source = _source(words, expressions)
    if words.take("where"):
        select.where = expressions.expression()
    if words.take("group", "by"):
        select.group = expressions.several()
    if words.take("order", "by"):
        select.order = expressions.order()
    if words.take("limit"):
        select.limit = expressions.expression()
    if words.take("for"):
        select.locking = _locking(words)
    return select


def _locking(words: Words) -> tuple[str, list[str] | None, bool]:
    mode = words.name()
    if mode not in ("update", "share"):
        raise NotUnderstood(f"for {mode}")
    aliases = None
    if words.take("of"):
        aliases = [words.name()]
        while words.take(","):
            aliases.append(words.name())
    return mode, aliases, words.take("skip", "locked")


def _source(words: Words, expressions: Expressions) -> Any:
    """What follows from: tables, functions and queries, joined or with commas between them."""
    left = _joined(words, expressions)
    while words.take(","):
        left = ("join", "cross", left, _joined(words, expressions), None, None)
    return left


def _joined(words: Words, expressions: Expressions) -> Any:
    left = _one_source(words, expressions)
    while True:
        if words.take("cross", "join"):
            left = ("join", "cross", left, _one_source(words, expressions), None, None)
            continue
        outer = words.take("left", "join")
        if not outer and not words.take("join"):
            return left
        right, kind = _one_source(words, expressions), "left" if outer else "inner"
        if words.take("on"):
            left = ("join", kind, left, right, expressions.expression(), None)
        else:
            words.expect("using", "(")
            columns = [words.name()]
            while words.take(","):
                columns.append(words.name())
            words.expect(")")
            left = ("join", kind, left, right, None, columns)


def _one_source(words: Words, expressions: Expressions) -> Any:
    words.take("lateral")
    if words.take("("):
        query = _statement(words)
        words.expect(")")
        words.take("as")
        return ("query", query, words.name())
    name = words.name()
    if words.take("("):
        arguments = [] if words.peek() == ")" else expressions.several()
        words.expect(")")
        ordinality = words.take("with", "ordinality")
        alias, columns = _alias(words, name), []
        if words.take("("):
            columns.append(words.name())
            while words.take(","):
                columns.append(words.name())
            words.expect(")")
        return ("function", name, arguments, ordinality, alias, columns)
    return ("table", name, _alias(words, name))


def _alias(words: Words, otherwise: str) -> str:
    if words.take("as"):
        return words.name()
    if words.kind() == "name" and words.peek() not in _AFTER_TABLE:
        return words.name()
    return otherwise


def _assignments(words: Words, expressions: Expressions) -> list[tuple[str, Expression]]:
    found = []
    while True:
        column = words.name()
        words.expect("=")
        found.append((column, expressions.expression()))
        if not words.take(","):
            return found


def _returning(words: Words, expressions: Expressions) -> list[tuple[Expression, str | None]]:
    return _items(words, expressions) if words.take("returning") else []


def _insert(words: Words) -> Insert:
    expressions = Expressions(words, _statement)
    words.expect("into")
    table = words.name()
    alias, columns = _alias(words, table), []
    if words.take("("):
        columns.append(words.name())
        while words.take(","):
            columns.append(words.name())
        words.expect(")")
    values = query = None
    if words.take("values"):
        values = []
        while True:
            words.expect("(")
            values.append(expressions.several())
            words.expect(")")
            if not words.take(","):
                break
    else:
        words.expect("select")
        query = _select(words)
    conflict = _conflict(words, expressions) if words.take("on", "conflict") else None
    return Insert(table, alias, columns, values, query, conflict, _returning(words, expressions))


def _conflict(
    words: Words, expressions: Expressions
) -> tuple[list[str] | None, list[tuple[str, Expression]] | None, Expression | None]:
    columns = None
    if words.take("("):
        columns = [words.name()]
        while words.take(","):
            columns.append(words.name())
        words.expect(")")
    words.expect("do")
    if words.take("nothing"):
        return columns, None, None
    words.expect("update", "set")
    assignments = _assignments(words, expressions)
    where = expressions.expression() if words.take("where") else None
    return columns, assignments, where


def _update(words: Words) -> Update:
    expressions = Expressions(words, _statement)
    table = words.name()
    alias = _alias(words, table)
    words.expect("set")
    assignments = _assignments(words, expressions)
    source = _source(words, expressions) if words.take("from") else None
    where = expressions.expression() if words.take("where") else None
    return Update(table, alias, assignments, source, where, _returning(words, expressions))


def _delete(words: Words) -> Delete:
    expressions = Expressions(words, _statement)
    words.expect("from")
    table = words.name()
    alias = _alias(words, table)
    where = expressions.expression() if words.take("where") else None
    return Delete(table, alias, where, _returning(words, expressions))
