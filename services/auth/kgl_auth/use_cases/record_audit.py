"""A security-relevant act goes into the log of its scope, at the end of the hash chain."""

from uuid import UUID

from kgl_auth.db import audit
from kgl_auth.domain.audit_chain import ChainedRecord, link, storable
from kgl_contracts.audit import RecordMade
from kgl_servicekit.database.transaction import Transaction

INSTANCE = "instance"


async def record_audit(tx: Transaction, made: RecordMade) -> None:
    """Append the record; others of the same scope wait for this transaction."""
    head = await audit.lock_head(tx, made.scope)
    record = storable(made.model_dump(mode="json"))
    entry = ChainedRecord(number=head.number + 1, prev_hash=head.hash, hash=link(head.hash, record), record=record)
    await audit.append(tx, made.scope, None if made.scope == INSTANCE else UUID(made.scope), entry)
