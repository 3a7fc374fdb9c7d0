"""Have the jobs that failed of an operation done again, by the services that failed."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from kgl_contracts.operations import OperationRetried
from kgl_ingest.db import receipts
from kgl_ingest.use_cases.cancel_operation import OperationNotFound
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Conflict, Forbidden
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE, grants
from kgl_servicekit.operations import Receipt

_MADE_BY: Mapping[str, str] = {"ingest.document": "documents:write", "ingest.delete": "documents:delete"}
"""The kinds whose stages are jobs, and the permission of the act that makes them."""


class NothingFailed(Conflict, code="nothing_failed", status=409):
    """No stage of this operation has failed, or what failed is being tried again already; read the receipt again."""


class OperationNotRetryable(Conflict, code="operation_not_retryable", status=409):
    """What failed here is no job. `kgl dead-letters list operation=<id>` has the events that could not be handled, for
    `kgl dead-letters redrive`; deliveries are sent again by :redeliver, and anything else is asked for anew.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Which operation, and what its caller may do; an operator may have all of them retried."""

    operation_id: UUID
    permissions: frozenset[str]
    operator: bool


async def retry_operation(tx: Transaction, command: Retry) -> Receipt:
    """Tell the services whose jobs have failed to queue them anew; the receipt goes on as soon as they have heard.

    Stages that failed since an event could not be handled stay as they are: these are dead letters. One that is not
    failed any more when a service hears of it is left alone, so that a repeat has no effect.
    Raises: OperationNotFound (404), Forbidden (403), NothingFailed, OperationNotRetryable (409).
    """
    receipt = await receipts.find(tx, command.operation_id)
    if receipt is None:
        raise OperationNotFound
    needed = _MADE_BY.get(receipt.kind)
    if needed is not None and not command.operator and not grants(command.permissions, needed):
        raise Forbidden(f"This repeats an act that needs {needed}; ask an owner of the workspace for it.")
    failed = [stage for stage in receipt.stages if stage.state == "failed"]
    if not failed:
        raise NothingFailed
    services = sorted({stage.name.partition(".")[0] for stage in failed if not stage.is_dead_letter})
    if needed is None or not services:
        raise OperationNotRetryable
    own = tx.scoped(tx.cause, (receipt.workspace_id or INSTANCE_WORKSPACE,))
    await own.emit(OperationRetried(operation_id=receipt.id, services=tuple(services)), operation=receipt.id)
    await own.audit("operation.retry", f"operation:{receipt.id}")
    return receipt
