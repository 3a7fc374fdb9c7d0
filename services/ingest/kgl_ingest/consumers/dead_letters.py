"""Dead letters of all services, heard with the rest of kgl.operations."""

from uuid import UUID

from kgl_contracts.dead_letters import DeadLetterMoved, DeadLetterNoted
from kgl_ingest.consumers.operations import ingest_operations
from kgl_ingest.use_cases.list_dead_letters import move_letter, note_letter
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import Event, Verdict
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE


def _workspaces(data: DeadLetterNoted | DeadLetterMoved) -> tuple[UUID, ...]:
    return (data.workspace_id or INSTANCE_WORKSPACE,)


@ingest_operations.on(DeadLetterNoted, workspaces=_workspaces)
async def on_dead_letter_noted(tx: Transaction, event: Event[DeadLetterNoted]) -> Verdict:
    return await note_letter(tx, event.data)


@ingest_operations.on(DeadLetterMoved, workspaces=_workspaces)
async def on_dead_letter_moved(tx: Transaction, event: Event[DeadLetterMoved]) -> Verdict:
    return await move_letter(tx, event.data)
