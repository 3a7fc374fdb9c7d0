"""What the collector of files needs: keys of blobs, generations that are never used twice, who has something to do."""

from alembic import op

revision = "0003"
down_revision = "0002"

_CHANGES = """
alter table blob alter column generation type bigint;
alter table blob add column key varchar not null
    generated always as ('ingest/' || workspace_id::text || '/' || sha256 || '/' || generation::text) stored;
create unique index uq_blob_key on blob (workspace_id, key);
create index ix_blob_collectable on blob (created_at, workspace_id);
create index ix_document_version_operation_id on document_version (workspace_id, operation_id);
insert into blob (workspace_id, sha256, generation, state, size, created_at)
select workspace_id, sha256, split_part(object_key, '/', 4)::bigint, 'live', max(size), min(created_at)
from document_version where state <> 'deleted' and object_key like 'ingest/%/%/%'
group by 1, 2, 3 on conflict do nothing
"""

# of the owner, whom row-level security does not bind: the collector has to find the workspaces first
_WORKSPACES = """
create function kgl_collectable_workspaces(older_than interval, most int) returns uuid[]
language sql stable security definer set search_path = public, pg_temp as $$
    select coalesce(array_agg(distinct workspace_id), '{}') from (
        select workspace_id from blob b
        where state = 'deleting' or (created_at < now() - older_than and not exists (
            select from document_version v
            where v.workspace_id = b.workspace_id and v.sha256 = b.sha256 and v.object_key = b.key
              and v.state <> 'deleted'))
        limit most) as collectable
$$
"""


def upgrade() -> None:
    """Releases go forward only."""
    for statement in _CHANGES.split(";\n"):
        op.execute(statement)
    op.execute(_WORKSPACES)
