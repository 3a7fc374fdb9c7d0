"""Reading expressions: Postgres' precedence, as far as the core's statements need it."""

from collections.abc import Callable
from typing import Any

from tests.simulation.sql_tokens import Expression, NotUnderstood, Words

_COMPARISONS = ("=", "<>", "!=", "<", ">", "<=", ">=")
_LEVELS: tuple[tuple[str, ...], ...] = (("||", "->>"), ("+", "-"), ("*", "/", "%"))
ParseQuery = Callable[[Words], Any]


class Expressions:
    """Reads expressions; `query` reads a select in parentheses."""

    def __init__(self, words: Words, query: ParseQuery) -> None:
        self._words = words
        self._query = query

    def expression(self) -> Expression:
        left = self._and()
        while self._words.take("or"):
            left = ("or", left, self._and())
        return left

    def several(self) -> list[Expression]:
        """Expressions with commas between them."""
        found = [self.expression()]
        while self._words.take(","):
            found.append(self.expression())
        return found

    def _and(self) -> Expression:
        left = self._not()
        while self._words.take("and"):
            left = ("and", left, self._not())
        return left

    def _not(self) -> Expression:
        if self._words.take("not"):
            return ("not", self._not())
        return self._is()

    def _is(self) -> Expression:
        left = self._comparison()
        words = self._words
        while words.take("is"):
            negated = words.take("not")
            if words.take("null"):
                tested: Expression = ("is_null", left)
            else:
                words.expect("distinct", "from")
                tested, negated = ("distinct", left, self._comparison()), negated
            left = ("not", tested) if negated else tested
        return left

    def _comparison(self) -> Expression:
        left = self._operators(0)
        words = self._words
        if words.take("between"):
            low = self._operators(0)
            words.expect("and")
            return ("and", ("binary", ">=", left, low), ("binary", "<=", left, self._operators(0)))
        negated = words.peek() == "not" and words.peek(1) in ("in", "like")
        if negated:
            words.next()
        if words.peek() in ("in", "like"):
            like = words.next().text == "like"
            tested = ("binary", "like", left, self._operators(0)) if like else self._member(left)
            return ("not", tested) if negated else tested
        if words.peek() in _COMPARISONS and words.kind() == "operator":
            operator = words.next().text
            operator = "<>" if operator == "!=" else operator
            for quantifier in ("any", "all"):
                if words.take(quantifier):
                    words.expect("(")
                    array = self.expression()
                    words.expect(")")
                    return (quantifier, operator, left, array)
            return ("binary", operator, left, self._operators(0))
        return left

    def _member(self, left: Expression) -> Expression:
        self._words.expect("(")
        if self._words.peek() in ("select", "with"):
            tested: Expression = ("any", "=", left, ("array_of", self._query(self._words)))
        else:
            tested = ("any", "=", left, ("array", self.several()))
        self._words.expect(")")
        return tested

    def _operators(self, level: int) -> Expression:
        if level == len(_LEVELS):
            return self._at_time_zone()
        left = self._operators(level + 1)
        while self._words.kind() == "operator" and self._words.peek() in _LEVELS[level]:
            operator = self._words.next().text
            left = ("binary", operator, left, self._operators(level + 1))
        return left

    def _at_time_zone(self) -> Expression:
        left = self._cast()
        while self._words.take("at", "time", "zone"):
            left = ("function", "timezone", [self._cast(), left], None)
        return left

    def _cast(self) -> Expression:
        if self._words.take("-"):
            return ("binary", "-", ("literal", 0), self._cast())
        left = self._primary()
        while self._words.take("::"):
            kind = self._words.name()
            if kind == "double":
                self._words.expect("precision")
            if self._words.take("["):
                self._words.expect("]")
                kind += "[]"
            left = ("cast", left, kind)
        return left

    def _primary(self) -> Expression:
        words = self._words
        kind = words.kind()
        if kind == "string":
            return ("literal", words.next().text)
        if kind == "number":
            text = words.next().text
            return ("literal", float(text) if "." in text else int(text))
        if kind == "param":
            return ("param", int(words.next().text[1:]) - 1)
        if words.take("("):
            return self._parenthesis()
        if words.take("*"):
            return ("star", None)
        return self._word()

    def _parenthesis(self) -> Expression:
        if self._words.peek() in ("select", "with"):
            inner: Expression = ("scalar", self._query(self._words))
        else:
            members = self.several()
            inner = members[0] if len(members) == 1 else ("row", members)
        self._words.expect(")")
        return inner

    def _word(self) -> Expression:
        words = self._words
        name = words.name()
        if name in ("true", "false", "null"):
            return ("literal", {"true": True, "false": False, "null": None}[name])
        if name == "case":
            return self._case()
        if name == "interval" and words.kind() == "string":
            return ("interval", words.next().text)
        if name in ("exists", "array") and words.peek() == "(":
            words.expect("(")
            query = self._query(words)
            words.expect(")")
            return ("exists", query) if name == "exists" else ("array_of", query)
        if words.take("."):
            return ("star", name) if words.take("*") else ("column", name, words.name())
        if words.take("("):
            return self._call(name)
        return ("column", None, name)

    def _case(self) -> Expression:
        words, branches, otherwise = self._words, [], ("literal", None)
        while words.take("when"):
            test = self.expression()
            words.expect("then")
            branches.append((test, self.expression()))
        if not branches:
            raise NotUnderstood("case without when")
        if words.take("else"):
            otherwise = self.expression()
        words.expect("end")
        return ("case", branches, otherwise)

    def _call(self, name: str) -> Expression:
        words = self._words
        if name == "extract":
            words.expect("epoch", "from")
            name = "extract_epoch"
        distinct = words.take("distinct")
        arguments = [] if words.peek() == ")" else self.several()
        order = self.order() if words.take("order", "by") else []
        words.expect(")")
        condition = None
        if words.take("filter"):
            words.expect("(", "where")
            condition = self.expression()
            words.expect(")")
        if order or condition is not None:
            return ("aggregate", name, arguments, order, condition)
        over = None
        if words.take("over"):
            words.expect("(")
            over = self._window()
            words.expect(")")
        return ("function", f"{name} distinct" if distinct else name, arguments, over)

    def _window(self) -> tuple[list[Expression], list[tuple[Expression, bool]]]:
        partition: list[Expression] = []
        order: list[tuple[Expression, bool]] = []
        if self._words.take("partition", "by"):
            partition = self.several()
        if self._words.take("order", "by"):
            order = self.order()
        return partition, order

    def order(self) -> list[tuple[Expression, bool]]:
        """What to sort by, each with whether it goes down."""
        found = []
        while True:
            key = self.expression()
            down = self._words.take("desc")
            if not down:
                self._words.take("asc")
            found.append((key, down))
            if not self._words.take(","):
                return found
