"""kgl.audit: every service's security-relevant acts, kept here."""

from kgl_auth.domain.audit_chain import INSTANCE
from kgl_auth.use_cases.record_audit import record_audit
from kgl_contracts import topics
from kgl_contracts.audit import RecordMade
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, Event, Reject, Subscription, Verdict

auth_audit = Subscription("auth.audit", topic=topics.AUDIT)


@auth_audit.on(RecordMade)
async def on_record_made(tx: Transaction, event: Event[RecordMade]) -> Verdict:
    """Keep the record, if its scope is the workspace that the event came from."""
    workspace = event.envelope.workspace_id
    if event.data.scope != (INSTANCE if workspace is None else str(workspace)):
        return Reject(f"scope {event.data.scope} is not the workspace of the event")
    await record_audit(tx, event.data)
    return DONE
