"""How the replica is kept: every event of kgl.identity is the full state of its key."""

from typing import Any
from uuid import UUID

from kgl_contracts.identity import (
    KeyChanged,
    MembershipChanged,
    ModuleChanged,
    SessionRevoked,
    Ticked,
    UserRevoked,
    WorkspaceChanged,
)
from kgl_contracts.topics import IDENTITY
from kgl_servicekit.database.signals import IDENTITY_CHANGED
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, Event, Subscription, Verdict

REPLICATED = (WorkspaceChanged, MembershipChanged, KeyChanged, SessionRevoked, UserRevoked, ModuleChanged, Ticked)

UPSERT = """
insert into identity_replica (key_id, type, sequence, workspace_id, state) values ($1, $2, $3, $4, $5)
on conflict (key_id) do update
set type = excluded.type, sequence = excluded.sequence, workspace_id = excluded.workspace_id,
    state = excluded.state, at = clock_timestamp()
"""

FORGET_SLUGS = """
delete from identity_replica
where type = 'slug' and workspace_id = $1 and key_id <> $2
"""


def identity_subscription(service: str) -> Subscription:
    """The subscription that keeps the replica of a service."""
    subscription = Subscription(f"{service}.identity", topic=IDENTITY)
    for model in REPLICATED:
        subscription.on(model)(apply_identity)
    return subscription


async def apply_identity(tx: Transaction, event: Event[Any]) -> Verdict:
    """Take over the state of a key, and have every process drop the answers that it keeps.

    Older events do not come here: the subscription drops them.
    """
    state = event.data.model_dump(mode="json")
    workspace = UUID(state["workspace_id"]) if "workspace_id" in state else None
    sequence = event.envelope.sequence or 0
    await tx.execute(UPSERT, event.key, event.data.event_type, sequence, workspace, state)
    if isinstance(event.data, Ticked):
        return DONE  # the time alone: what was answered before is as right as it was
    tx.notify(IDENTITY_CHANGED)
    if isinstance(event.data, WorkspaceChanged):
        await _apply_slug(tx, event.data, sequence)
    return DONE


async def _apply_slug(tx: Transaction, workspace: WorkspaceChanged, sequence: int) -> None:
    slug = "" if workspace.deleted else f"slug:{workspace.slug.lower()}"
    await tx.execute(FORGET_SLUGS, workspace.workspace_id, slug)
    if slug:
        led_to = {"workspace_id": str(workspace.workspace_id)}
        await tx.execute(UPSERT, slug, "slug", sequence, workspace.workspace_id, led_to)
