"""Job: stored file to text and chunks."""

import asyncio

from kgl_ingest.db import documents
from kgl_ingest.domain.documents import chunks_key, text_key
from kgl_ingest.domain.media_types import MediaType
from kgl_ingest.jobs.declared import ParseDocument, jobs
from kgl_ingest.jobs.outside import Outside
from kgl_ingest.parsing.parsed_text import VERDICTS, ParseFailed, ParserUnavailable
from kgl_ingest.use_cases.record_parsed import (
    RecordParsed,
    RecordParseFailed,
    record_file_missing,
    record_parse_failed,
    record_parsed,
)
from kgl_servicekit.errors import JobFailed, Unavailable
from kgl_servicekit.failpoints import failpoint
from kgl_servicekit.jobs.runner import Job
from kgl_servicekit.objects.port import ObjectMissing


@jobs.handles(ParseDocument, timeout=300, attempts=5, concurrency=4, verdicts=VERDICTS)
async def parse_document(job: Job[ParseDocument], outside: Outside) -> None:
    """Parse in a killable child, store chunks and text, record the manifest."""
    data = job.data
    title = await job.run(documents.given_title, (data.document_id, data.version)) or data.title
    try:
        content = await outside.objects.get(data.object_key)
    except ObjectMissing:
        await job.finish(record_file_missing, (data.document_id, data.version), state="superseded")
        return
    try:
        parsed = await outside.parsers.parse(
            content,
            MediaType(data.media_type),
            data.document_id,
            data.version,
            outside.parser_timeout,
            charset=data.charset,
            title=title,
        )
    except ParserUnavailable as out:
        raise Unavailable("No parser can be started at the moment.", retry_after=2) from out
    except ParseFailed as failed:
        await job.run(
            record_parse_failed,
            RecordParseFailed(document_id=data.document_id, version=data.version, code=failed.code),
        )
        raise JobFailed(failed.code, failed.sentence) from failed
    place = (job.workspace_id, data.document_id, data.version, parsed.sha256)
    await asyncio.gather(
        outside.objects.put(chunks_key(*place), parsed.chunks), outside.objects.put(text_key(*place), parsed.text)
    )
    failpoint("object.written")
    await job.finish(
        record_parsed,
        RecordParsed(
            document_id=data.document_id,
            version=data.version,
            title=parsed.title,
            chunks_object=chunks_key(*place),
            chunks_sha256=parsed.sha256,
            text_object=text_key(*place),
            chunk_count=parsed.chunk_count,
            text_length=parsed.text_length,
        ),
    )
