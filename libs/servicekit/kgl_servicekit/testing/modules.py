"""Modules in the replica of a service, and what receipts were told, for tests."""

from collections.abc import Sequence
from uuid import UUID

from kgl_contracts.identity import ModuleChanged
from kgl_contracts.operations import Progress, ReceiptProgressed
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity.access import Mode
from kgl_servicekit.identity.subscription import UPSERT


async def hear_module(
    database: Database,
    workspace: UUID,
    name: str,
    *capabilities: str,
    mode: Mode = "required",
    deadline_seconds: int = 600,
    deleted: bool = False,
) -> None:
    """The replica hears that a module is enabled for these capabilities, or disabled."""
    event = ModuleChanged(
        key_id=f"module:{workspace}:{name}",
        workspace_id=workspace,
        module=name,
        capabilities=capabilities,
        mode=mode,
        deadline_seconds=deadline_seconds,
        deleted=deleted,
    )

    async def put(tx: Transaction, event: ModuleChanged) -> None:
        await tx.execute(UPSERT, event.key, event.event_type, 1, workspace, event.model_dump(mode="json"))

    await database.run((), put, event)


async def told_stages(database: Database, operation: UUID) -> dict[str, str]:
    """The last state that this service reported of each stage of an operation."""
    return {entry.stage: entry.state for entry in await _told(database, operation)}


async def told_removed(database: Database, operation: UUID) -> dict[str, int]:
    """What this service reported to have removed for an operation."""
    return {kind: many for entry in await _told(database, operation) for kind, many in entry.removed.items()}


async def _told(database: Database, operation: UUID) -> list[Progress]:
    async def read(tx: Transaction, _: None) -> Sequence[Progress]:
        rows = await tx.fetch("select data from outbox_log where type = $1 order by id", ReceiptProgressed.event_type)
        return [entry for row in rows for entry in ReceiptProgressed.model_validate_json(row["data"]).entries]

    told = await database.run((), read, None)
    return [entry for entry in told if entry.operation_id == operation]
