"""Words of a statement, and the nodes that a parsed one is made of.

An expression is a tuple whose first member says what it is: `("column", "p", "id")`, `("binary", "+", left, right)`.
"""

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Expression = tuple[Any, ...]

_TOKEN = re.compile(
    r"""\s+|--[^\n]*
    |(?P<string>'(?:[^']|'')*')
    |(?P<number>\d+(?:\.\d+)?)
    |(?P<param>\$\d+)
    |(?P<name>[A-Za-z_][A-Za-z_0-9]*)
    |(?P<quoted>"[^"]+")
    |(?P<operator>::|\|\||<=|>=|<>|!=|->>|[-+*/%=<>(),.;\[\]])""",
    re.VERBOSE,
)


class NotUnderstood(Exception):
    """The statement has something that the simulated database does not know: teach it, or it proves nothing."""


class Token(NamedTuple):
    """One word: `kind` is the group of the pattern above."""

    kind: str
    text: str


@dataclass(slots=True)
class Select:
    """A query; `locking` is (mode, aliases or None, skip locked)."""

    items: list[tuple[Expression, str | None]]
    source: Any = None
    where: Expression | None = None
    group: list[Expression] = field(default_factory=list)
    order: list[tuple[Expression, bool]] = field(default_factory=list)
    limit: Expression | None = None
    distinct: bool = False
    distinct_on: list[Expression] = field(default_factory=list)
    locking: tuple[str, list[str] | None, bool] | None = None
    ctes: list[tuple[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Insert:
    """`conflict` is None, or (columns or None, assignments or None, where)."""

    table: str
    alias: str
    columns: list[str]
    values: list[list[Expression]] | None
    query: Select | None
    conflict: tuple[list[str] | None, list[tuple[str, Expression]] | None, Expression | None] | None
    returning: list[tuple[Expression, str | None]]
    ctes: list[tuple[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Update:
    """An update of the rows of one table, joined with `source`."""

    table: str
    alias: str
    assignments: list[tuple[str, Expression]]
    source: Any
    where: Expression | None
    returning: list[tuple[Expression, str | None]]
    ctes: list[tuple[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Delete:
    """A deletion from one table."""

    table: str
    alias: str
    where: Expression | None
    returning: list[tuple[Expression, str | None]]
    ctes: list[tuple[str, Any]] = field(default_factory=list)


Statement = Select | Insert | Update | Delete


def tokens(sql: str) -> list[Token]:
    """Cut a statement into words; names are lower case unless quoted."""
    found, at = [], 0
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        if match is None:
            raise NotUnderstood(f"no word begins at {sql[at : at + 20]!r}")
        at = match.end()
        kind = match.lastgroup
        if kind is None:
            continue
        text = match.group()
        if kind == "quoted":
            found.append(Token("name", text[1:-1]))
        elif kind == "string":
            found.append(Token(kind, text[1:-1].replace("''", "'")))
        else:
            found.append(Token(kind, text.lower() if kind == "name" else text))
    found.append(Token("end", ""))
    return found


class Words:
    """The words of a statement, read from left to right."""

    def __init__(self, sql: str) -> None:
        self._tokens = tokens(sql)
        self._at = 0
        self._sql = sql

    def peek(self, ahead: int = 0) -> str:
        """The next word, or nothing for a string: a keyword never comes in quotes."""
        token = self._tokens[min(self._at + ahead, len(self._tokens) - 1)]
        return "" if token.kind == "string" else token.text

    def kind(self) -> str:
        return self._tokens[self._at].kind

    def next(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def take(self, *words: str) -> bool:
        """Read these words if they come next."""
        if all(self.peek(place) == word for place, word in enumerate(words)):
            self._at += len(words)
            return True
        return False

    def expect(self, *words: str) -> None:
        for word in words:
            if not self.take(word):
                raise self.wrong(word)

    def name(self) -> str:
        if self.kind() != "name":
            raise self.wrong("a name")
        return self.next().text

    def wrong(self, expected: str) -> NotUnderstood:
        left = " ".join(token.text for token in self._tokens[self._at : self._at + 8])
        return NotUnderstood(f"expected {expected} before {left!r} in {self._sql.strip()[:200]!r}")
