"""PDF: the text layer, page by page."""

import io

import pypdf

from kgl_ingest.parsing.parsed_text import ParsedText, ParseFailed

_BROKEN = "The PDF is damaged and cannot be read; open it in a viewer, save it again, and send that file."
_ENCRYPTED = "The PDF is protected by a password; send a copy without one."


def parse(content: bytes) -> ParsedText:
    """Pages are joined by blank lines; the title is the one in the document's information.

    A PDF whose user password is empty is read, as viewers do.
    Raises: ParseFailed `pdf_encrypted`, `pdf_broken`, `no_text`.
    """
    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise ParseFailed("pdf_encrypted", _ENCRYPTED)
        pages = "\n\n".join(page.extract_text() for page in reader.pages)
    except (MemoryError, ParseFailed):
        raise
    except Exception as error:  # pypdf lets KeyError, TypeError, RecursionError and more escape
        raise ParseFailed("pdf_broken", _BROKEN) from error
    title, language = _information(reader)
    return ParsedText.of(pages, title=title, language=language)


def _information(reader: pypdf.PdfReader) -> tuple[str | None, str | None]:
    """The title and the language that the file states, as far as they can be read."""
    try:
        title: object = reader.metadata.title if reader.metadata else None
        language: object = reader.root_object.get("/Lang")
    except MemoryError:
        raise
    except Exception:  # the pages were read; damaged information does not take them away
        return None, None
    return title if isinstance(title, str) else None, language if isinstance(language, str) else None
