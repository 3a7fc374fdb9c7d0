"""The last result of each module about a document, by which an older one that ends later is known.

A service that takes results has the table `last_result`. Callers hold the lock of the document's row.
"""

from uuid import UUID

from sqlmodel import Field, SQLModel

from kgl_servicekit.database.transaction import Transaction


class LastResult(SQLModel):
    """The columns of `last_result`: only what is noted there becomes part of anything."""

    workspace_id: UUID = Field(primary_key=True)
    document_id: UUID = Field(primary_key=True)
    module: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    version: int
    sha256: str


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
