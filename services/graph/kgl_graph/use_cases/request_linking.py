"""Have a module's result linked, unless the document has moved on."""

from kgl_contracts.ai import ExtractionCompleted
from kgl_graph.db import documents
from kgl_graph.jobs.declared import LinkDocument
from kgl_servicekit.database import last_results
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, SUPERSEDED, Verdict


async def request_linking(tx: Transaction, event: ExtractionCompleted) -> Verdict:
    """Start the job that links; results about an older version or a document that is gone are superseded.

    A result tells that its version is parsed, whether or not the event of that has come.
    """
    heard = await documents.hear(tx, event.document_id, event.version, parsed=True)
    if not heard.current:
        await tx.report(f"graph.link.{event.module}", "superseded")
        return SUPERSEDED
    await last_results.note(tx, event.document_id, event.module, "extraction", event.version, event.sha256)
    job = LinkDocument(
        document_id=event.document_id,
        version=event.version,
        module=event.module,
        result_object=event.result_object,
        sha256=event.sha256,
    )
    await tx.start_job(job)
    return DONE
