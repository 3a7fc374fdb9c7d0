"""Identity, workspaces, keys, modules and the audit log."""

from alembic import op

from kgl_servicekit.database.core_migration import create_core, protect

revision = "0001"
down_revision = None

_IDENTITY = (
    """create table user_account (
        id uuid not null, email varchar not null, name varchar not null, password_hash varchar,
        created_at timestamptz not null,
        constraint pk_user_account primary key (id), constraint uq_user_account_email unique (email))""",
    """create table login_session (
        id varchar not null, user_id uuid not null, client_id varchar not null, scope varchar not null,
        created_at timestamptz not null, expires_at timestamptz not null, ended_at timestamptz, end_reason varchar,
        constraint pk_login_session primary key (id),
        constraint fk_login_session_user_id_user_account foreign key (user_id) references user_account (id))""",
    "create index ix_login_session_user_id on login_session (user_id)",
    "create index ix_login_session_expires_at on login_session (expires_at)",
    """create table authorization_code (
        code_hash bytea not null, session_id varchar not null, redirect_uri varchar not null,
        code_challenge varchar not null, nonce varchar, expires_at timestamptz not null, used_at timestamptz,
        constraint pk_authorization_code primary key (code_hash),
        constraint fk_authorization_code_session_id_login_session foreign key (session_id)
            references login_session (id) on delete cascade)""",
    "create index ix_authorization_code_session_id on authorization_code (session_id)",
    """create table refresh_token (
        token_hash bytea not null, session_id varchar not null, created_at timestamptz not null,
        expires_at timestamptz not null, used_at timestamptz,
        constraint pk_refresh_token primary key (token_hash),
        constraint fk_refresh_token_session_id_login_session foreign key (session_id)
            references login_session (id) on delete cascade)""",
    "create index ix_refresh_token_session_id on refresh_token (session_id)",
    """create table browser_session (
        cookie_hash bytea not null, session_id varchar not null, user_id uuid not null,
        sealed_refresh_token bytea not null, created_at timestamptz not null, expires_at timestamptz not null,
        constraint pk_browser_session primary key (cookie_hash),
        constraint uq_browser_session_session_id unique (session_id))""",
    "create index ix_browser_session_expires_at on browser_session (expires_at)",
    """create table signing_key (
        kid varchar not null, private_jwk jsonb not null, active boolean not null, created_at timestamptz not null,
        expires_at timestamptz, constraint pk_signing_key primary key (kid))""",
    "create unique index uq_signing_key_active on signing_key (active) where active",
    """create table attempt_counter (
        scope bytea not null, started_at timestamptz not null, attempts integer not null,
        constraint pk_attempt_counter primary key (scope))""",
    "create index ix_attempt_counter_started_at on attempt_counter (started_at)",
)

_TENANCY = (
    """create table workspace (
        id uuid not null, slug varchar not null, name varchar not null, version integer not null,
        created_at timestamptz not null, updated_at timestamptz not null,
        constraint pk_workspace primary key (id), constraint uq_workspace_slug unique (slug))""",
    """create table membership (
        workspace_id uuid not null, user_id uuid not null, roles text[] not null, created_at timestamptz not null,
        updated_at timestamptz not null,
        constraint pk_membership primary key (workspace_id, user_id),
        constraint fk_membership_user_id_user_account foreign key (user_id) references user_account (id))""",
    "create index ix_membership_user_id on membership (user_id)",
    """create table api_key (
        id varchar not null, workspace_id uuid not null, name varchar not null, secret_sha256 varchar not null,
        permissions text[] not null, module varchar, created_by varchar not null, created_at timestamptz not null,
        expires_at timestamptz, revoked_at timestamptz,
        constraint pk_api_key primary key (id))""",
    "create index ix_api_key_workspace_id on api_key (workspace_id)",
    """create table enabled_module (
        workspace_id uuid not null, name varchar not null, capabilities text[] not null, mode varchar not null,
        deadline_seconds integer not null, version integer not null, updated_at timestamptz not null,
        constraint pk_enabled_module primary key (workspace_id, name))""",
)

_AUDIT = (
    """create table audit_chain (
        scope varchar not null, number bigint not null, hash bytea not null,
        constraint pk_audit_chain primary key (scope))""",
    """create table audit_record (
        scope varchar not null, number bigint not null, workspace_id uuid, prev_hash bytea not null,
        hash bytea not null, record jsonb not null,
        constraint pk_audit_record primary key (scope, number))""",
    "create index ix_audit_record_actor on audit_record (scope, (record ->> 'actor'), number)",
    "create index ix_audit_record_action on audit_record (scope, (record ->> 'action'), number)",
    "create index ix_audit_record_target on audit_record (scope, (record ->> 'target'), number)",
)

# records of the instance belong to no workspace: any transaction of this service may add to them
_AUDIT_POLICY = """
create policy workspaces on audit_record using (
    workspace_id is null
    or workspace_id = any ((select string_to_array(nullif(current_setting(
        'kgl.workspaces', true), ''), ',')::uuid[])::uuid[]))
"""

_APPEND_ONLY = """
do $$
declare
    role text;
begin
    for role in select distinct a.grantee::regrole::text from pg_class c, aclexplode(c.relacl) a
                where c.oid = 'audit_record'::regclass and a.grantee <> c.relowner and a.grantee <> 0
    loop
        execute format('revoke all on audit_record from %s', role);
        execute format('grant select, insert on audit_record to %s', role);
    end loop;
end $$
"""


def upgrade() -> None:
    """Create all; the audit log is append-only for everyone but its owner."""
    create_core(op)
    for statement in (*_IDENTITY, *_TENANCY, *_AUDIT):
        op.execute(statement)
    protect(op, "enabled_module")
    op.execute("alter table audit_record enable row level security")
    op.execute(_AUDIT_POLICY)
    op.execute(_APPEND_ONLY)
