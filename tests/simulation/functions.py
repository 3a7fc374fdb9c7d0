"""Operators and functions of the simulated database, with SQL's null."""

import math
import operator
import re
import zlib
from collections.abc import Callable
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from tests.simulation.sql_tokens import NotUnderstood

if TYPE_CHECKING:
    from tests.simulation.execution import Execution


def _like(text: str, pattern: str) -> bool:
    """Whether a text fits; a backslash takes the meaning of the sign behind it."""
    signs = re.findall(r"\\.|.", pattern, re.DOTALL)
    parts = {"%": ".*", "_": "."}
    return re.fullmatch("".join(parts.get(sign) or re.escape(sign[-1]) for sign in signs), text, re.DOTALL) is not None


def _json(value: Any) -> Any:
    """As it is in JSON: times without the zeros behind."""
    if isinstance(value, datetime):
        text = value.isoformat()
        return re.sub(r"(\.\d*?)0+(?=[+-])", r"\1", text)
    return str(value) if isinstance(value, UUID) else value


def _object(*pairs: Any) -> dict[str, Any]:
    return {pairs[place]: _json(pairs[place + 1]) for place in range(0, len(pairs), 2)}


def _divide(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left >= 0) == (right >= 0) else -quotient
    return left / right


def _shift(left: Any, right: Any) -> Any:
    """A date moves by days; all else adds."""
    return left + timedelta(days=right) if type(left) is date and isinstance(right, int) else left + right


def _difference(left: Any, right: Any) -> Any:
    return left - timedelta(days=right) if type(left) is date and isinstance(right, int) else left - right


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
    "+": _shift,
    "-": _difference,
    "*": operator.mul,
    "/": _divide,
    "%": math.fmod,
    "like": _like,
    "||": lambda left, right: f"{left}{right}",
}
OPERATORS["%"] = lambda left, right: int(math.fmod(left, right)) if abs(left) < 2**53 else left % right


def interval(text: str) -> timedelta:
    """`1 second`, `24 hours`, `7 days`."""
    number, unit = text.split()
    return timedelta(**{unit if unit.endswith("s") else unit + "s": float(number)})


def cast(kind: str) -> Callable[[Any], Any] | None:
    """What a cast does to a value that is not null; None for nothing."""
    if kind.endswith("[]") or kind in ("text", "uuid", "jsonb", "bytea", "timestamptz"):
        return None
    casts: dict[str, Callable[[Any], Any]] = {
        "int": int,
        "bigint": int,
        "smallint": int,
        "float8": float,
        "numeric": Fraction,
        "date": lambda value: value.date() if isinstance(value, datetime) else value,
    }
    if kind not in casts:
        raise NotUnderstood(f"a cast to {kind}")
    return casts[kind]


def _at_zone(by: "Execution", zone: str, at: Any) -> Any:
    """A time with a zone becomes one without, and the other way round."""
    if type(at) is date:
        at = datetime(at.year, at.month, at.day)
    return (
        at.replace(tzinfo=ZoneInfo(zone)) if at.tzinfo is None else at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    )


def _hash(_: "Execution", text: str) -> int:
    return zlib.crc32(text.encode())


# strict ones: null for a null argument
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ceil": lambda _, value: math.ceil(value),
    "extract_epoch": lambda _, value: value.total_seconds() if isinstance(value, timedelta) else value.timestamp(),
    "starts_with": lambda _, text, prefix: text.startswith(prefix),
    "convert_to": lambda _, text, encoding: text.encode(encoding),
    "crc32": lambda _, data: zlib.crc32(data),
    "hashtext": _hash,
    "timezone": _at_zone,
    "now": lambda by: by.work.started,
    "clock_timestamp": lambda by: by.server.now(),
    "pg_advisory_xact_lock": lambda by, *key: by.lock_advisory(key),
    "pg_try_advisory_xact_lock": lambda by, *key: by.try_advisory(key),
}


def greatest(values: list[Any]) -> Any:
    """The greatest that is not null."""
    return max((value for value in values if value is not None), default=None)


def least(values: list[Any]) -> Any:
    return min((value for value in values if value is not None), default=None)


def coalesce(values: list[Any]) -> Any:
    return next((value for value in values if value is not None), None)


LENIENT: dict[str, Callable[[list[Any]], Any]] = {
    "greatest": greatest,
    "least": least,
    "coalesce": coalesce,
    "jsonb_build_object": lambda values: _object(*values),
}


def _some(values: list[Any]) -> list[Any]:
    return [value for value in values if value is not None]


AGGREGATES: dict[str, Callable[[list[Any]], Any]] = {
    "count": lambda values: len(_some(values)),
    "count distinct": lambda values: len(set(_some(values))),
    "jsonb_agg": lambda values: list(map(_json, values)) or None,
    "max": lambda values: max(_some(values), default=None),
    "min": lambda values: min(_some(values), default=None),
    "sum": lambda values: sum(_some(values)) if _some(values) else None,
}
