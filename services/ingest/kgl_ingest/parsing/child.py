"""The process that parses: jobs on stdin, answers on stdout, until stdin ends.

python -m kgl_ingest.parsing.child PARENT_PID LIMITS_JSON
"""

import hashlib
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO
from uuid import UUID

import orjson

from kgl_ingest.domain.media_types import MediaType
from kgl_ingest.parsing.frames import BEGUN, framed, read_frame
from kgl_ingest.parsing.limits import ChildLimits, confine, die_with, grant_cpu
from kgl_ingest.parsing.parsed_text import ParsedText, ParseFailed

EXIT_OUT_OF_MEMORY = 3
_UNREADABLE = "The document cannot be read as {media_type} ({error}); check the file and its media type."

Parse = Callable[[bytes, MediaType, str | None], ParsedText]


def serve(parse: Parse, arguments: list[str]) -> None:
    """Answer jobs with `parse` until the parent is gone."""
    parent, limits = int(arguments[0]), ChildLimits.decode(arguments[1])
    confine(limits)
    die_with(parent)
    logging.disable()
    source, sink = os.fdopen(os.dup(0), "rb"), _only_writer_of_stdout()
    try:
        while _serve_one(parse, limits, source, sink):
            pass
    except MemoryError:
        os._exit(EXIT_OUT_OF_MEMORY)  # what is left of this process is not to be trusted


def _serve_one(parse: Parse, limits: ChildLimits, source: BinaryIO, sink: BinaryIO) -> bool:
    job = read_frame(source)
    if job is None:
        return False
    sink.write(framed(BEGUN))
    sink.flush()
    content = read_frame(source)
    if content is None:
        return False
    grant_cpu(limits)
    sink.write(framed(*_answer(parse, orjson.loads(job), content)))
    sink.flush()
    return True


def _only_writer_of_stdout() -> BinaryIO:
    """What libraries print must not stand between frames."""
    sink = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(silence, standard)
    return sink


def _answer(parse: Parse, job: dict[str, Any], content: bytes) -> tuple[bytes, bytes, bytes]:
    media_type = MediaType(job["media_type"])
    try:
        return _parsed(parse(content, media_type, job["charset"]).named(job["title"]), job)
    except ParseFailed as failed:
        return _failed(failed.code, failed.sentence)
    except MemoryError:
        raise
    except Exception as error:
        sentence = _UNREADABLE.format(media_type=media_type, error=type(error).__name__)
        return _failed("unreadable", sentence)


def _parsed(parsed: ParsedText, job: dict[str, Any]) -> tuple[bytes, bytes, bytes]:
    from kgl_ingest.parsing.chunks import chunk_lines

    lines = list(chunk_lines(UUID(job["document_id"]), job["version"], parsed))
    chunks = b"".join(lines)
    summary = {
        "title": parsed.title,
        "language": parsed.language,
        "chunk_count": len(lines),
        "text_length": len(parsed.text),
        "sha256": hashlib.sha256(chunks).hexdigest(),
    }
    return orjson.dumps(summary), chunks, parsed.text.encode()


def _failed(code: str, sentence: str) -> tuple[bytes, bytes, bytes]:
    return orjson.dumps({"code": code, "sentence": sentence}), b"", b""


if __name__ == "__main__":
    from kgl_ingest.parsing import formats

    serve(formats.parse, sys.argv[1:])
