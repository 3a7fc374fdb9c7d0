"""Runs checks of drift, now or each night."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from loguru import logger

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.drift.check import ByHand, DriftCheck, Item
from kgl_servicekit.drift.table import DriftResult, claim, kept, next_look, note
from kgl_servicekit.metrics import DRIFT_ITEMS
from kgl_servicekit.waiting import repeat

if TYPE_CHECKING:
    from kgl_servicekit.service import Service

PAUSE = 10.0
"""Seconds between the two looks: longer than a transaction, and than a job that has just been started waits."""
_MOST = 1000
_EXAMPLES = 5
_EVERY = 60.0
_SPREAD = 1800.0  # seconds over which the services' looks of one night are spread


async def run_check(
    database: Database, check: DriftCheck, *, repair: bool = False, pause: float = PAUSE, hour: int = 0
) -> DriftResult:
    """Look twice, repair what differs in both looks if asked to, and keep the result; a repair is audited.

    What goes wrong ends this check alone, and is its result.
    """
    try:
        result = await _looked(database, check, repair, pause)
    except Exception as error:
        logger.bind(check=check.name).opt(exception=error).warning("drift.not_looked_at")
        result = DriftResult(check=check.name, error=f"{type(error).__name__}: {error}"[:300])
    await database.run((), note, (result, next_look(hour, datetime.now(UTC))))
    logger.bind(check=check.name, items=result.items, repaired=result.repaired).info("drift.looked_at")
    return result


async def _looked(database: Database, check: DriftCheck, repair: bool, pause: float) -> DriftResult:
    first: set[Item] = set()
    complete = True
    async for page in check.look():
        first.update(page)
        if len(first) >= _MOST:
            complete = False
            break
    if not first:
        return DriftResult(check=check.name)
    await asyncio.sleep(pause)
    still = set(await check.again(sorted(first)))
    items = sorted(item for item in first if item in still)
    repaired = await _repaired(database, check, items) if repair and items else 0
    return DriftResult(
        check=check.name,
        items=len(items),
        repaired=repaired,
        complete=complete,
        examples=_examples(items, check.by_hand),
    )


async def _repaired(database: Database, check: DriftCheck, items: Sequence[Item]) -> int:
    """Repair, and audit it, also where it ends before its end."""
    repaired: int | None = None
    try:
        repaired = await check.repair(items)
    finally:
        await database.run((), _audit, (check.name, {"items": len(items), "repaired": repaired}))
    return repaired


async def _audit(tx: Transaction, made: tuple[str, Mapping[str, int | None]]) -> None:
    check, counts = made
    await tx.audit("drift.repair", f"drift:{check}", details={**counts})


def _examples(items: Sequence[Item], by_hand: ByHand) -> tuple[str, ...]:
    """Some of the items: the first for each thing that is to be done about them is among those."""
    firsts: dict[str | None, Item] = {}
    for item in items:
        firsts.setdefault(by_hand.get(item.state), item)
    chosen = dict.fromkeys([*firsts.values(), *items])
    return tuple(str(item) for item in sorted(list(chosen)[:_EXAMPLES]))


async def look_now(service: "Service", *, repair: bool = False, pause: float = PAUSE) -> list[DriftResult]:
    """Run all checks of a service that is not open, beside its workers and APIs."""
    async with service.opened():
        await service.bus.start()
        try:
            hour = max(service.settings.drift_hour, 0)
            return [
                await run_check(service.database, check, repair=repair, pause=pause, hour=hour)
                for check in service.drift_checks
            ]
        finally:
            await service.bus.stop()


class DriftWatch:
    """Looks each night at `hour` o'clock (UTC; below 0 never), in one worker, and shows what was found last."""

    def __init__(self, database: Database, checks: Sequence[DriftCheck], hour: int, pause: float = PAUSE) -> None:
        self._database = database
        self._pause = pause
        self._checks = checks
        self._hour = hour

    async def run(self) -> None:
        """Until cancelled."""
        await repeat(self.once, _EVERY, postponed="drift.postponed", first=random.uniform(0, 5))  # noqa: S311

    async def once(self) -> None:
        """Look at what is due, and sample the metric from what is kept, so that every worker shows the same."""
        if self._hour >= 0:
            names = [check.name for check in self._checks]
            later = next_look(self._hour, datetime.now(UTC)) + timedelta(seconds=random.uniform(0, _SPREAD))  # noqa: S311
            due = await self._database.run((), claim, (names, later))
            for check in self._checks:
                if check.name in due:
                    await run_check(self._database, check, pause=self._pause, hour=self._hour)
        await self.sample()

    async def sample(self) -> None:
        """Set the metric."""
        for row in await self._database.run((), kept, None):
            DRIFT_ITEMS.labels(row["name"]).set(row["items"] - row["repaired"])
