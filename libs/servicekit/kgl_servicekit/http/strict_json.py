"""JSON as RFC 8259 has it and no more: what parsers disagree about is refused (RFC 8725 section 2.6, RFC 7493)."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import orjson

from kgl_servicekit.errors import BadRequest

DEEPEST = 100
MOST_MEMBERS = 10_000
LONGEST_NUMBER = 40

_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class MalformedJson(BadRequest, code="malformed_json"):
    """The body is not the JSON that is expected here; `reason` says what is wrong with it."""

    reason: str


def parse_json(raw: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises MalformedJson for anything else, and for NaN and infinities, numbers of more than 40 characters,
    repeated members, more than 10,000 members in one object, nesting deeper than 100, and strings with lone
    surrogates or U+0000, which Postgres cannot store.
    """
    try:
        value = json.loads(
            raw.decode(),
            object_pairs_hook=_members,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_finite,
        )
        if b"\\u" in raw:
            orjson.loads(raw)
    except MalformedJson:
        raise
    except UnicodeDecodeError as wrong:
        raise MalformedJson(reason="it is not UTF-8") from wrong
    except RecursionError as wrong:
        raise MalformedJson(reason=f"it is nested deeper than {DEEPEST}") from wrong
    except json.JSONDecodeError as wrong:
        raise MalformedJson(reason=f"{wrong.msg} at character {wrong.pos}") from wrong
    except orjson.JSONDecodeError as wrong:
        raise MalformedJson(reason="a string holds half of a surrogate pair") from wrong
    if _ESCAPED_NUL.search(raw):
        raise MalformedJson(reason="a string holds U+0000")
    if raw.count(b"[") + raw.count(b"{") > DEEPEST and _is_deep(value):
        raise MalformedJson(reason=f"it is nested deeper than {DEEPEST}")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MOST_MEMBERS:
        raise MalformedJson(reason=f"an object has more than {MOST_MEMBERS} members")
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedJson(reason="an object has two members of the same name")
    return members


def _no_constant(name: str) -> Any:
    raise MalformedJson(reason=f"{name} is no JSON number")


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise MalformedJson(reason=f"a number has more than {LONGEST_NUMBER} characters")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits) if len(digits) <= LONGEST_NUMBER else math.inf
    if math.isinf(value):
        raise MalformedJson(reason=f"a number is too large, or has more than {LONGEST_NUMBER} characters")
    return value


def _is_deep(value: Any) -> bool:
    """Whether there are more than DEEPEST containers in each other; level by level, so without recursion."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        level = [child for parent in level for child in _children(parent) if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _children(parent: dict[str, Any] | list[Any]) -> Iterator[Any]:
    return iter(parent.values() if isinstance(parent, dict) else parent)
