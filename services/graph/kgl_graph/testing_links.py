"""Documents for tests that the reader has read, by a request and its result."""

from uuid import UUID

from kgl_contracts.ai import EntityRef, ExtractedEntity, ExtractedRelation, Extraction, ExtractionCompleted, Span
from kgl_graph.testing import GraphKit, chunk_id


def extraction_of(document: UUID, name: str) -> Extraction:
    """An entity of this name with a mention, and its relation to another one."""
    span = Span(chunk_id=chunk_id(document, 1, 0), start=0, end=3)
    me, other = EntityRef(name=name, type="thing"), EntityRef(name="Other", type="thing")
    return Extraction(
        entities=(ExtractedEntity(name=name, type="thing", mentions=(span,)),),
        relations=(ExtractedRelation(subject=me, predicate="knows", object=other, evidence=(span,)),),
    )


async def linked(graph: GraphKit, name: str = "Tea") -> UUID:
    """A document that the reader has read, by a request and its result."""
    document = await graph.index(["tea and other words"])
    (job,) = await graph.lease("extract")
    body = {"token": job["token"], "extraction": extraction_of(document, name).model_dump(mode="json")}
    url = f"/modules/v1/jobs/{job['id']}:complete"
    answer = await graph.client.post(url, json=body, headers=graph.headers)
    assert answer.status_code < 300, answer.text
    (row,) = await graph.rows("select * from ai_request where capability = 'extract' and document_id = $1", document)
    await graph.hear(
        ExtractionCompleted(
            request_id=row["id"],
            document_id=document,
            version=1,
            module=row["module"],
            entities=1,
            relations=1,
            result_object=row["result_object"],
            sha256=row["result_sha256"],
        )
    )
    await graph.work()
    assert len(await graph.rows("select * from mention")) > 0
    return document
