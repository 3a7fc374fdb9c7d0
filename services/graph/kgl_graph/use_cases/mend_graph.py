"""What differs from its source in the graph is derived again, by the ways of every day."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from kgl_contracts.ingest import DocumentDeleted, DocumentParsed, DocumentSnapshotted, chunks_url
from kgl_graph.db import drift, graph
from kgl_graph.jobs.declared import EVERY_VERSION, ForgetVectors, IndexDocument, LinkDocument
from kgl_graph.use_cases.hear_document import hear_deleted, hear_parsed
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.drift.check import Item


async def mend_documents(tx: Transaction, documents: Sequence[UUID]) -> int:
    """Erase what is left of documents that are gone, and link the results about the others again.

    The answer is for how many of them there was something to do: what nobody gave a result for stays.
    """
    gone = await drift.gone(tx, documents)
    for document in gone:
        await tx.start_job(ForgetVectors(document_id=document, below_version=EVERY_VERSION))
    again = await drift.results(tx, sorted(set(documents).difference(gone)))
    for row in again:
        job = LinkDocument(
            document_id=row["document_id"],
            version=row["version"],
            module=row["module"],
            result_object=row["result_object"],
            sha256=row["result_sha256"],
        )
        await tx.start_job(job)
    return len(gone) + len({row["document_id"] for row in again})


async def remove_entities(tx: Transaction, entities: Sequence[UUID]) -> int:
    """Remove those that are still without a source, under their locks."""
    removed, _ = await graph.remove_unfounded(tx, set(entities), set())
    return removed


async def remove_relations(tx: Transaction, relations: Sequence[UUID]) -> int:
    """Remove those that are still without a source, under their locks."""
    _, removed = await graph.remove_unfounded(tx, set(), set(relations))
    return removed


async def compare_told(tx: Transaction, parts: Sequence[DocumentSnapshotted]) -> list[tuple[UUID, str, Any]]:
    """Documents that are not here as ingest tells of them: id, how they differ, and what it told."""
    told = {part.document_id: part for part in parts}
    return [(document, state, told[document]) for document, state in await drift.differing(tx, parts)]


async def mend_told(tx: Transaction, items: Sequence[Item]) -> int:
    """Do what the event of the source would have done, and index again; what ingest does not know is erased."""
    for item in items:
        part: DocumentSnapshotted | None = item.source
        if part is None or part.deleted:
            version = 1 if part is None else part.version
            await hear_deleted(tx, DocumentDeleted(document_id=UUID(item.key), version=version))
            continue
        assert part.parsed_version is not None  # others do not differ
        assert part.chunks_object is not None
        assert part.sha256 is not None
        await hear_parsed(
            tx,
            DocumentParsed(
                document_id=part.document_id,
                version=part.parsed_version,
                chunk_count=part.chunk_count or 0,
                text_length=0,
                chunks_url=chunks_url(part.document_id, part.parsed_version),
                chunks_object=part.chunks_object,
                sha256=part.sha256,
            ),
        )
        # the job that this starts is the one that was done already, if there was one
        index = IndexDocument(
            document_id=part.document_id,
            version=part.parsed_version,
            chunks_object=part.chunks_object,
            sha256=part.sha256,
        )
        await tx.start_job(index)
    return len(items)
