"""What makes every order of events end in one state: the parsed version, the indexed one, and who names an entity."""

from alembic import op

from kgl_servicekit.database.core_migration import protect

revision = "0003"
down_revision = "0002"

_CHANGES = """
alter table document add column parsed_version integer;
update document set parsed_version = indexed_version;
create table indexed_document (
    workspace_id uuid not null,
    document_id uuid not null,
    version integer not null,
    constraint pk_indexed_document primary key (workspace_id, document_id)
);
insert into indexed_document (workspace_id, document_id, version)
    select workspace_id, document_id, indexed_version from document
    where indexed_version is not null and deleted_at is null;
alter table document drop column indexed_version;
create table entity_source (
    workspace_id uuid not null,
    entity_id uuid not null,
    source varchar not null,
    document_id uuid,
    module varchar,
    name varchar not null,
    aliases varchar[] not null,
    constraint pk_entity_source primary key (workspace_id, entity_id, source)
);
create index ix_entity_source_document on entity_source (workspace_id, document_id, module);
insert into entity_source (workspace_id, entity_id, source, document_id, module, name, aliases)
    select distinct on (workspace_id, entity_id, said.source)
           workspace_id, entity_id, said.source, said.document_id, said.module, e.name, e.aliases
    from (
        select workspace_id, entity_id, 'document:' || document_id || ':' || module as source, document_id, module
        from mention
        union all
        select workspace_id, r.subject_id, s.source, s.document_id, s.module
        from relation_source s join relation r using (workspace_id) where r.id = s.relation_id
        union all
        select workspace_id, r.object_id, s.source, s.document_id, s.module
        from relation_source s join relation r using (workspace_id) where r.id = s.relation_id
    ) said join entity e using (workspace_id) where e.id = said.entity_id
    order by workspace_id, entity_id, said.source
"""


def upgrade() -> None:
    """Releases go forward only."""
    for statement in _CHANGES.split(";\n"):
        op.execute(statement)
    protect(op, "indexed_document", "entity_source")
