"""How figures are made: ours and the limit in turn, in one run, the median of the rounds and of their ratios."""

import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

ROUNDS = 5

Measure = Callable[[], Awaitable[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One line of the table. `ratio` is ours to the limit; `goal` says what has to hold, in words."""

    name: str
    unit: str
    ours: float
    limit: float | None
    ratio: float | None
    goal: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """Medians of both, and the median of the ratios of each round."""

    ours: float
    limit: float
    ratio: float


async def in_turn(ours: Measure, limit: Measure, rounds: int = ROUNDS) -> Pair:
    """Measure A B A B ..., so that both see the same weather; each call gives one figure."""
    pairs = []
    for number in range(rounds):
        if number % 2:
            second = await limit()
            first = await ours()
        else:
            first = await ours()
            second = await limit()
        pairs.append((first, second))
    return Pair(
        statistics.median(first for first, _ in pairs),
        statistics.median(second for _, second in pairs),
        statistics.median(first / second for first, second in pairs),
    )


def at_least(name: str, unit: str, pair: Pair, share: float) -> Result:
    """Ours has to reach a share of the limit (rates: more is better)."""
    return Result(
        name=name,
        unit=unit,
        ours=pair.ours,
        limit=pair.limit,
        ratio=pair.ratio,
        goal=f">= {share:g} of the limit",
        holds=pair.ratio >= share,
    )


def at_most(name: str, unit: str, ours: float, most: float, limit: float | None = None) -> Result:
    """An absolute figure that may not be passed (times, sizes: less is better)."""
    return Result(
        name=name,
        unit=unit,
        ours=ours,
        limit=limit,
        ratio=None if not limit else ours / limit,
        goal=f"<= {most:g} {unit}",
        holds=ours <= most,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all does not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def per_second(count: int, work: Callable[[], Awaitable[None]]) -> float:
    """How many of `count` things were done in a second."""
    start = time.perf_counter()
    await work()
    return count / (time.perf_counter() - start)


def table(results: Sequence[Result]) -> Table:
    """The results, one in a row."""
    shown = Table("figure", "unit", "ours", "limit", "ratio", "goal", "holds")
    for r in results:
        shown.add_row(
            r.name, r.unit, _short(r.ours), _short(r.limit), _short(r.ratio), r.goal, "yes" if r.holds else "NO"
        )
    return shown


def report(results: Sequence[Result], path: Path) -> bool:
    """Write the results as JSON; True when all hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n")
    return all(r.holds for r in results)


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
