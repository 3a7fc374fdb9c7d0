"""Statements of the last result of each module about a document. Callers hold the lock of the document's row."""

from uuid import UUID

from kgl_servicekit.database.transaction import Transaction


async def note(tx: Transaction, document: UUID, module: str, kind: str, version: int, sha256: str) -> None:
    """This is what the module says now of a version, in the place of what it said before."""
    await tx.execute(
        """insert into last_result (workspace_id, document_id, module, kind, version, sha256)
           values ($1, $2, $3, $4, $5, $6)
           on conflict (workspace_id, document_id, module, kind) do update
           set version = excluded.version, sha256 = excluded.sha256""",
        tx.workspace,
        document,
        module,
        kind,
        version,
        sha256,
    )


async def is_last(tx: Transaction, document: UUID, module: str, kind: str, version: int, sha256: str) -> bool:
    """Whether no other result came after this one; also where none was noted, as before there were notes."""
    replaced: bool = await tx.fetchval(
        """select exists (select from last_result
                          where workspace_id = $1 and document_id = $2 and module = $3 and kind = $4
                            and (version, sha256) is distinct from ($5, $6))""",
        tx.workspace,
        document,
        module,
        kind,
        version,
        sha256,
    )
    return not replaced


async def forget(tx: Transaction, document: UUID) -> None:
    """The document is gone."""
    await tx.execute("delete from last_result where workspace_id = $1 and document_id = $2", tx.workspace, document)
