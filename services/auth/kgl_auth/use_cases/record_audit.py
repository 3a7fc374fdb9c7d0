"""A security-relevant act goes into the log of its scope, at the end of the hash chain."""

from kgl_auth.db import audit
from kgl_auth.domain.audit_chain import canonical
from kgl_contracts.audit import RecordMade
from kgl_servicekit.database.transaction import Transaction


async def record_audit(tx: Transaction, made: RecordMade) -> None:
    """Append the record; others of the same scope wait for this transaction."""
    await audit.append(tx, canonical(made.model_dump(mode="json")))
