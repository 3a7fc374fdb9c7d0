"""The one way to write: statements, events, jobs and receipts that become true together or not at all."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
from pydantic import JsonValue

from kgl_contracts.audit import RecordMade
from kgl_contracts.event import EventData
from kgl_contracts.operations import OperationStarted, PlannedStage, StageState, Subject
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.database.connection import Connection
from kgl_servicekit.database.signals import JOBS, OUTBOX
from kgl_servicekit.events.outbox import Outgoing, outgoing, outgoing_report, write_outgoing
from kgl_servicekit.ids import derived_id, fast_derived_id, fast_uuid7, uuid7
from kgl_servicekit.jobs.declare import JobData
from kgl_servicekit.jobs.queue import NewJob, write_jobs
from kgl_servicekit.operations import Receipt

if TYPE_CHECKING:
    from kgl_servicekit.events.subscription import Event

_ENTRIES_PER_REPORT = 150  # at most 400 bytes each: below the limit of an event


@dataclass(slots=True)
class Pending:
    """What a transaction has gathered and writes just before it commits."""

    events: list[Outgoing] = field(default_factory=list)
    jobs: list[NewJob] = field(default_factory=list)
    progress: list[dict[str, Any]] = field(default_factory=list)
    channels: set[str] = field(default_factory=set)


class Transaction:
    """An open transaction, bound to its workspaces by row-level security.

    Statements are SQL with `$1` parameters. Events, jobs and reports are gathered and written at the end,
    so that the locks of their keys are held for the shortest time.
    """

    __slots__ = ("_connection", "_names", "_pending", "_reporter", "_service", "cause", "now", "workspaces")

    def __init__(
        self,
        connection: Connection,
        *,
        service: str,
        workspaces: Sequence[UUID],
        cause: Cause,
        reporter: str | None = None,
        pending: Pending | None = None,
    ) -> None:
        self._connection = connection
        self._service = service
        self._reporter = reporter
        self._pending = pending if pending is not None else Pending()
        self._names: dict[str, int] = {}
        self.workspaces = tuple(workspaces)
        self.cause = cause
        self.now = cause.at or datetime.now(UTC)

    @property
    def service(self) -> str:
        """The service whose database this is."""
        return self._service

    @property
    def workspace(self) -> UUID:
        """The only workspace of this transaction; LookupError when it has none or several."""
        if len(self.workspaces) != 1:
            raise LookupError(f"the transaction has {len(self.workspaces)} workspaces, not one")
        return self.workspaces[0]

    def scoped(self, cause: Cause, workspaces: Sequence[UUID]) -> "Transaction":
        """The same transaction as one of its causes sees it: its workspaces, its own time and ids."""
        return Transaction(
            self._connection,
            service=self._service,
            workspaces=workspaces,
            cause=cause,
            reporter=self._reporter,
            pending=self._pending,
        )

    def under(self, event: "Event[Any]") -> "Transaction":
        """The same transaction as one event of a batch sees it."""
        workspace = event.envelope.workspace_id
        return self.scoped(event.cause._replace(run=self.cause.run), () if workspace is None else (workspace,))

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        return await self._connection.fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        return await self._connection.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        return await self._connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: Any, timeout: float | None = None) -> str:
        """Run one statement; the answer is Postgres' tag, such as `UPDATE 1`. It may take `timeout`, or 60 s."""
        return await self._connection.execute(sql, *args, timeout=timeout)

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        await self._connection.executemany(sql, rows)

    def new_id(self, name: str = "id") -> UUID:
        """An id: new under a request; under an event or a job always the same for the n-th of this name."""
        ordinal = self._names[name] = self._names.get(name, 0) + 1
        if self.cause.kind == "request":
            return uuid7()
        return derived_id(self.cause.id, name, ordinal)

    def _event_id(self, kind: str) -> UUID:
        """As `new_id`, in the form that the database driver takes fastest."""
        ordinal = self._names[kind] = self._names.get(kind, 0) + 1
        return fast_uuid7() if self.cause.kind == "request" else fast_derived_id(self.cause.id, kind, ordinal)

    async def emit(
        self,
        event: EventData,
        *,
        workspace: UUID | None = None,
        operation: UUID | None = None,
        instance: bool = False,
    ) -> None:
        """Send an event after the commit, in order for its key. `instance` events have no workspace.

        Raises EventRefused for an event that is not declared or too large.
        """
        cause = self.cause
        row = outgoing(
            event,
            self._event_id(event.event_type),
            cause,
            self.now,
            workspace=None if instance else workspace or self.workspace,
            operation=operation or cause.operation_id,
        )
        self._pending.events.append(row)

    async def start_job(
        self,
        data: JobData,
        *,
        workspace: UUID | None = None,
        operation: UUID | None = None,
        delay: float = 0.0,
        key: str | None = None,
    ) -> UUID:
        """Have slow or outside work done after the commit. A second job of the same kind and `key` is none.

        `delay` in seconds. The answer is the job's id.
        """
        job = NewJob(
            # who names the cause may not be trusted with the identity of a job that has a key of its own
            id=self.new_id(data.kind) if key is None else derived_id("job", data.kind, key),
            data=data,
            workspace_id=workspace or self.workspace,
            operation_id=operation or self.cause.operation_id,
            cause=self.cause,
            delay=delay,
            key=key,
        )
        self._pending.jobs.append(job)
        return job.id

    async def start_operation(
        self, kind: str, subject: Subject, stages: Sequence[PlannedStage], *, id: UUID | None = None
    ) -> Receipt:
        """Open a receipt whose plan is frozen here; later work carries its id and reports its stages.

        `id` (UUIDv7) is for what has one already, by which it is found again.
        """
        operation = id or self.new_id("operation")
        plan = tuple(stages)
        started = OperationStarted(operation_id=operation, kind=kind, subject=subject, stages=plan, started_at=self.now)
        await self.emit(started, operation=operation)
        return Receipt.planned(operation, kind, subject, plan, self.now)

    async def report(
        self,
        stage: str,
        state: StageState,
        *,
        operation: UUID | None = None,
        workspace: UUID | None = None,
        run: int | None = None,
        attempt: int = 1,
        holder: str | None = None,
        error: str | None = None,
        next_retry_at: datetime | None = None,
        removed: Mapping[str, int] | None = None,
        kept_until: Mapping[str, datetime] | None = None,
    ) -> None:
        """Tell the receipt how a stage stands, in the run of the cause; and of a deletion what went and has still to.

        Work that belongs to no operation reports nothing.
        """
        operation = operation or self.cause.operation_id
        if operation is None:
            return
        entry = {
            "workspace_id": str(workspace or self.workspace),
            "operation_id": str(operation),
            "stage": stage,
            "state": state,
            "at": datetime.now(UTC),
        }
        run = self.cause.run if run is None else run
        if run != 1:
            entry["run"] = run
        if attempt != 1:
            entry["attempt"] = attempt
        if holder is not None:
            entry["holder"] = holder
        if error is not None:
            entry["error"] = error
        if next_retry_at is not None:
            entry["next_retry_at"] = next_retry_at
        if removed:
            entry["removed"] = removed
        if kept_until:
            entry["kept_until"] = kept_until
        self._pending.progress.append(entry)

    async def audit(
        self,
        action: str,
        target: str,
        *,
        outcome: str = "allowed",
        details: dict[str, JsonValue] | None = None,
        scope: UUID | None = None,
    ) -> None:
        """Record a security-relevant act of this transaction's actor. `scope` defaults to the workspace."""
        workspace = scope or (self.workspaces[0] if len(self.workspaces) == 1 else None)
        record = RecordMade(
            scope=str(workspace or "instance"),
            record_id=self.new_id("audit"),
            actor=self.cause.actor,
            action=action,
            target=target,
            outcome="allowed" if outcome == "allowed" else "denied",
            details=details or {},
            at=self.now,
        )
        await self.emit(record, workspace=workspace, instance=workspace is None)

    def notify(self, channel: str) -> None:
        """Wake those that wait for the channel, in any process, once this is committed."""
        self._pending.channels.add(channel)

    async def flush(self) -> frozenset[str]:
        """Write what was gathered, and name the channels to wake after the commit. Called by the edge."""
        self._gather_reports()
        pending = self._pending
        if pending.jobs:
            await write_jobs(self._connection, pending.jobs)
            self.notify(JOBS)
        if pending.events:
            await write_outgoing(self._connection, pending.events)
            self.notify(OUTBOX)
        return frozenset(pending.channels)

    def _gather_reports(self) -> None:
        entries, self._pending.progress = self._pending.progress, []
        for first in range(0, len(entries), _ENTRIES_PER_REPORT):
            part = entries[first : first + _ENTRIES_PER_REPORT]
            # without a worker's own key, concurrent requests would queue for one key's lock
            reporter = self._reporter or f"{self._service}/api/{part[0]['operation_id']}"
            row = outgoing_report(reporter, part, self.new_id("report"), self.cause, self.now)
            self._pending.events.append(row)
