"""What differs from its source in the graph is derived again, by the ways of every day."""

from collections.abc import Sequence
from uuid import UUID

from kgl_graph.db import drift, graph
from kgl_graph.jobs.declared import EVERY_VERSION, ForgetVectors, LinkDocument
from kgl_servicekit.database.transaction import Transaction


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
