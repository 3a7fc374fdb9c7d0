"""Examines one service. What cannot be asked is a finding too, and keeps nothing else from being asked."""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from kgl_servicekit.database.migrations import unlike
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.doctor.finding import Finding, Told
from kgl_servicekit.doctor.tables import TABLE_CHECKS, TableCheck, failed_jobs, refused_lately
from kgl_servicekit.drift.table import examine_drift
from kgl_servicekit.events.breaker import WINDOW
from kgl_servicekit.events.lag import Lag, lags
from kgl_servicekit.events.relay_memory import BrokerLostData, Memory
from kgl_servicekit.settings import guessed_secrets

if TYPE_CHECKING:
    from kgl_servicekit.service import Service

_DEADLINE = 10.0  # seconds for one check
_PATIENCE = 3.0  # seconds within which a subscription that is behind has to move
_LOOK_AGAIN = 0.1
_FAR_BEHIND = 1000  # events, as the alert ConsumerLags
_LEAST_FREE = 0.1
_LEAST_BYTES = 1024**3

Ask = Callable[[], Awaitable[Sequence[Told]]]


async def examine(service: "Service", *, patience: float = _PATIENCE) -> list[Finding]:
    """All findings about a service, in the order of its checks; none when all is well."""
    return await _Examination(service, patience).run()


class _Examination:
    def __init__(self, service: "Service", patience: float) -> None:
        self._service = service
        self._patience = patience
        self._found: list[Finding] = []

    async def run(self) -> list[Finding]:
        service = self._service
        await self._ask("secrets", self._secrets, "")
        await self._ask("disk", self._disk, "")
        async with AsyncExitStack() as stack:
            if await self._open(stack):
                for name, check in self._of_tables().items():
                    await self._ask(name, lambda check=check: service.database.run((), check, None))  # type: ignore[misc]
                await self._ask("migrations", self._migrations)
                await self._bus(stack)
            await self._stores(stack)
        return self._found

    def _of_tables(self) -> Mapping[str, TableCheck]:
        verdicts = self._service.jobs.verdicts
        jobs: Mapping[str, TableCheck] = {"failed jobs": lambda tx, _: failed_jobs(tx, verdicts)}
        checks = {check.name: check.by_hand for check in self._service.drift_checks}
        drift: Mapping[str, TableCheck] = {"drift": lambda tx, _: examine_drift(tx, checks)} if checks else {}
        return {**TABLE_CHECKS, **jobs, **self._service.examinations, **drift}

    async def _open(self, stack: AsyncExitStack) -> bool:
        """Open the database; False when it is out, which is told with all that could not be asked."""
        database = self._service.database
        skipped = ", ".join([*self._of_tables(), "migrations", "bus", "lag"])

        async def start() -> list[Told]:
            await database.start()
            stack.push_async_callback(database.stop)
            await database.ping()
            return []

        return await self._ask("database", start, f"nothing is known of {skipped}")

    async def _bus(self, stack: AsyncExitStack) -> None:
        bus = self._service.bus

        async def start() -> list[Told]:
            await bus.start()
            stack.push_async_callback(bus.stop)
            await bus.ping()
            return []

        if await self._ask("bus", start, "nothing is known of lost events and lag"):
            await self._ask("lost events", self._lost)
            await self._ask("lag", self._lag)

    async def _stores(self, stack: AsyncExitStack) -> None:
        for resource in self._service.resources:

            async def enter(resource: Callable[[], object] = resource) -> list[Told]:
                await stack.enter_async_context(resource())  # type: ignore[arg-type]
                return []

            await self._ask("stores", enter)
        for name, check in self._service.checks.items():

            async def ping(check: Callable[[], Awaitable[None]] = check) -> list[Told]:
                await check()
                return []

            await self._ask(name, ping)

    async def _ask(self, check: str, ask: Ask, besides: str = "") -> bool:
        """Note what the check tells; False when it could not be asked, which is noted as well."""
        try:
            async with asyncio.timeout(_DEADLINE + self._patience):
                told = await ask()
        except Exception as error:
            why = str(error).strip() or type(error).__name__
            what = f"{check} cannot be asked: {why}" + (f" ({besides})" if besides else "")
            self._note(check, Told(what, "start or mend it; the sentence says what is wrong"))
            return False
        for each in told:
            self._note(check, each)
        return True

    def _note(self, check: str, told: Told) -> None:
        self._found.append(Finding(service=self._service.name, check=check, what=told.what, todo=told.todo))

    async def _secrets(self) -> list[Told]:
        return [
            Told(
                f"{name} has no secret, or one that anybody would guess",
                "set another; outside of production it is taken, in production the service refuses to start",
            )
            for name in guessed_secrets(self._service.settings)
        ]

    async def _disk(self) -> list[Told]:
        settings = self._service.settings
        if settings.object_store != "directory" or settings.object_dir is None:
            return []
        place = settings.object_dir
        while not place.exists():
            place = place.parent
        usage = shutil.disk_usage(place)
        if usage.free >= _LEAST_BYTES and usage.free >= usage.total * _LEAST_FREE:
            return []
        free, total = usage.free / 1024**3, usage.total / 1024**3
        what = f"{free:.1f} of {total:.0f} GiB are free where {settings.object_dir} lies"
        return [Told(what, "make room, or a larger volume")]

    async def _migrations(self) -> list[Told]:
        service = self._service

        async def read(tx: Transaction, _: None) -> list[str]:
            return [row["version_num"] for row in await tx.fetch("select version_num from alembic_version")]

        there = await service.database.run((), read, None)
        pending, unknown = unlike(service.migrations, service.branches, there)
        told = []
        if pending:
            do = f"kgl-{service.name} migrate (make up and make dev do it at their start)"
            told.append(Told(f"migrations are pending: {', '.join(pending)}", do))
        if unknown:
            do = "run the release that made them: this one is older than the database"
            told.append(Told(f"the database has migrations that this release does not know: {', '.join(unknown)}", do))
        return told

    async def _lost(self) -> list[Told]:
        try:
            await Memory(self._service.database, self._service.bus).check()
        except BrokerLostData as lost:
            return [Told(f"the bus lacks acknowledged events of {', '.join(lost.topics)}", "kgl refill")]
        return []

    async def _lag(self) -> list[Told]:
        """Looks again for some time: what moves meanwhile, however slowly, does not stand still."""
        service = self._service
        subscriptions = service.all_subscriptions
        first = now = await lags(service.database, service.bus, subscriptions)
        until = time.monotonic() + self._patience
        while any(_still(*pair) for pair in zip(first, now, strict=True)) and time.monotonic() < until:
            await asyncio.sleep(_LOOK_AGAIN)
            now = await lags(service.database, service.bus, subscriptions)
        told = []
        for before, lag in zip(first, now, strict=True):
            behind = f"{lag.subscription} is {lag.events} events behind"
            if _still(before, lag):
                told.append(await self._stands_still(lag.subscription, behind))
            elif lag.events >= _FAR_BEHIND:
                told.append(Told(behind, f"more workers: make scale SERVICE={service.name} WORKERS=..."))
        return told

    async def _stands_still(self, name: str, behind: str) -> Told:
        """A breaker is open in a worker alone; what it has refused is in the tables."""
        service = self._service
        (share,) = {each.reject_share for each in service.all_subscriptions if each.name == name}
        refused = await service.database.run((), refused_lately, name)
        if refused >= share * WINDOW:
            return Told(
                f"{behind}, has refused {refused} within 10 min, and stands still for that",
                f"kgl dead-letters list subscription={name} shows why; mend it: it tries again every 30 s",
            )
        todo = f"GET /health/ready and the log of {service.name}-worker say what it waits for"
        return Told(f"{behind} and does not move", todo)


def _still(before: Lag, now: Lag) -> bool:
    """Whether there is a partition that is behind and has not moved."""
    return any(
        behind and before.behind[part] and before.at[part] == now.at[part] for part, behind in now.behind.items()
    )
