"""What can never be used again is deleted."""

from datetime import timedelta

from kgl_servicekit.database.statements import rows_of
from kgl_servicekit.database.transaction import Transaction

KEPT = timedelta(days=1)
_BATCH = 5000

# codes and refresh tokens go with their session; used ones stay as long as it, so that a reuse is noticed
_DELETE = (
    """delete from login_session where id in (
           select id from login_session where expires_at < $1 order by expires_at limit $2)""",
    """delete from browser_session where cookie_hash in (
           select cookie_hash from browser_session where expires_at < $1 order by expires_at limit $2)""",
    """delete from attempt_counter where scope in (
           select scope from attempt_counter where started_at < $1 order by started_at limit $2)""",
)


async def delete_expired(tx: Transaction, _: None) -> int:
    """Delete up to 5000 rows of each kind that ended a day ago or earlier; the answer counts them."""
    deleted = 0
    for statement in _DELETE:
        tag = await tx.execute(statement, tx.now - KEPT, _BATCH)
        deleted += rows_of(tag)
    return deleted
