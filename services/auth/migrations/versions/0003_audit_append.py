"""The audit log grows through one function of the owner alone; the service's role can only read its tables."""

from alembic import op

revision = "0003"
down_revision = "0002"

# The hash is made here, from the very text that the record is stored from: a caller can add what it likes at
# the end, and nothing else. The head's row is locked to the end of the transaction, so records queue for it.
_APPEND = """
create function kgl_audit_append(canonical text) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    content jsonb := canonical::jsonb;
    of_scope text := content ->> 'scope';
    workspace uuid := nullif(of_scope, 'instance')::uuid;
    head audit_chain;
begin
    if of_scope is null then
        raise exception 'the record names no scope';
    end if;
    if workspace is not null and not workspace = any (coalesce(
        string_to_array(nullif(current_setting('kgl.workspaces', true), ''), ',')::uuid[], '{}')) then
        raise exception 'the transaction is not in the workspace of the record' using errcode = '42501';
    end if;
    insert into audit_chain (scope, number, hash) values (of_scope, 0, decode(repeat('00', 32), 'hex'))
        on conflict do nothing;
    select * into head from audit_chain c where c.scope = of_scope for update;
    insert into audit_record (scope, number, workspace_id, prev_hash, hash, record)
        values (of_scope, head.number + 1, workspace, head.hash,
            sha256(head.hash || convert_to(canonical, 'UTF8')), content)
        returning number, hash into head.number, head.hash;
    update audit_chain c set number = head.number, hash = head.hash where c.scope = of_scope;
    return head.number;
end $$
"""

_READ_ONLY = """
do $$
declare
    place text;
    role text;
begin
    foreach place in array array['audit_record', 'audit_chain'] loop
        for role in select distinct a.grantee::regrole::text from pg_class c, aclexplode(c.relacl) a
                    where c.oid = place::regclass and a.grantee <> c.relowner and a.grantee <> 0
        loop
            execute format('revoke all on %I from %s', place, role);
            execute format('grant select on %I to %s', place, role);
        end loop;
    end loop;
end $$
"""


def upgrade() -> None:
    """Releases go forward only."""
    op.execute(_APPEND)
    op.execute(_READ_ONLY)
