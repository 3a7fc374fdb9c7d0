"""What kind of document some content is, and why it is refused when it is none of ours.

UnsupportedMediaType   a type that we do not read, or content that contradicts its type (HTTP 415)
EmptyDocument          no content (HTTP 422)
"""

import re
from enum import StrEnum
from pathlib import PurePosixPath

from kgl_ingest.domain.charsets import declared_charset, is_known_charset, is_text


class MediaType(StrEnum):
    """The documents that ingest reads."""

    PLAIN = "text/plain"
    MARKDOWN = "text/markdown"
    RESTRUCTURED_TEXT = "text/x-rst"
    HTML = "text/html"
    PDF = "application/pdf"


SUPPORTED = ", ".join(MediaType)


class UnsupportedMediaType(ValueError):
    """The content is not a document that we read; `reason` is a sentence that says what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EmptyDocument(ValueError):
    """The document has no content; `reason` is a sentence that says what to do."""

    def __init__(self) -> None:
        self.reason = "The document is empty; send one that has content."
        super().__init__(self.reason)


_ALIASES = {
    "text/x-markdown": MediaType.MARKDOWN,
    "text/x-web-markdown": MediaType.MARKDOWN,
    "text/prs.fallenstein.rst": MediaType.RESTRUCTURED_TEXT,
    "text/rst": MediaType.RESTRUCTURED_TEXT,
    "application/xhtml+xml": MediaType.HTML,
    "application/x-pdf": MediaType.PDF,
} | {media_type.value: media_type for media_type in MediaType}
_UNDECLARED = {"", "application/octet-stream", "binary/octet-stream"}
_SUFFIXES = {
    ".txt": MediaType.PLAIN,
    ".text": MediaType.PLAIN,
    ".log": MediaType.PLAIN,
    ".md": MediaType.MARKDOWN,
    ".markdown": MediaType.MARKDOWN,
    ".mdown": MediaType.MARKDOWN,
    ".mkd": MediaType.MARKDOWN,
    ".rst": MediaType.RESTRUCTURED_TEXT,
    ".rest": MediaType.RESTRUCTURED_TEXT,
    ".html": MediaType.HTML,
    ".htm": MediaType.HTML,
    ".xhtml": MediaType.HTML,
    ".pdf": MediaType.PDF,
}
_SNIFFED_BYTES = 64 * 1024
_PDF_HEADER = b"%PDF-"
# ISO 32000-1 annex H: readers look for the header within the first 1024 bytes.
_PDF_HEADER_WITHIN = 1024
_BEFORE_MARKUP = re.compile(r"(?:\s|\ufeff|<!--.*?-->|<\?.*?\?>)*", re.DOTALL)
_HTML_START = re.compile(r"<(?:!doctype\s+html|html|head|body)[\s>/]", re.IGNORECASE)
_TAG = re.compile(r"<[a-zA-Z!/][^<>]*>")


def recognise(head: bytes, declared: str | None, filename: str | None) -> MediaType:
    """The media type of the content that starts with `head`.

    `head` is the whole content, or its beginning (64 KiB are enough; what is binary only further on is then
    found by the parser). `declared` is a Content-Type with or without parameters. PDF and HTML are seen in the
    content; between the text types `declared` decides, then the suffix of `filename`, then it is text/plain.

    Raises: UnsupportedMediaType, EmptyDocument.
    """
    claimed = _declared_type(declared) or _suffix_type(filename)
    if not head or head.isspace():
        raise EmptyDocument
    seen = _seen_type(head, claimed)
    if seen and claimed and seen is not claimed:
        raise UnsupportedMediaType(f"The content is {seen}, not {claimed} as declared; send it as {seen}.")
    if seen is MediaType.PDF:
        return seen
    if claimed is MediaType.PDF:
        raise UnsupportedMediaType("The content is no PDF (it has no %PDF- header); send the PDF file itself.")
    if claimed is MediaType.HTML and not seen:
        raise UnsupportedMediaType("The content has no HTML markup; send it as text/plain.")
    if not _is_text(head, declared, seen):
        raise UnsupportedMediaType(
            f"The content is binary, or its charset is not the declared one (UTF-8 if none is); "
            f"send text with its charset, or one of: {SUPPORTED}."
        )
    return seen or claimed or MediaType.PLAIN


def _declared_type(declared: str | None) -> MediaType | None:
    name = (declared or "").partition(";")[0].strip().lower()
    if name in _UNDECLARED:
        return None
    if name not in _ALIASES:
        raise UnsupportedMediaType(f"{_shown(name)} is not supported; send one of: {SUPPORTED}.")
    charset = declared_charset(declared)
    if charset and not is_known_charset(charset):
        raise UnsupportedMediaType(f"The charset {_shown(charset)} is not supported; send the text as UTF-8.")
    return _ALIASES[name]


def _suffix_type(filename: str | None) -> MediaType | None:
    return _SUFFIXES.get(PurePosixPath(filename or "").suffix.lower())


def _seen_type(head: bytes, claimed: MediaType | None) -> MediaType | None:
    start = head[:_PDF_HEADER_WITHIN]
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_PDF_HEADER):
        return MediaType.PDF
    if claimed is MediaType.PDF and _PDF_HEADER in start:
        return MediaType.PDF
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    markup = head[:_SNIFFED_BYTES].decode(encoding, "replace")
    before = _BEFORE_MARKUP.match(markup)
    if before and _HTML_START.match(markup, before.end()):
        return MediaType.HTML
    if claimed is MediaType.HTML and _TAG.search(markup):
        return MediaType.HTML
    return None


def _is_text(head: bytes, declared: str | None, seen: MediaType | None) -> bool:
    if seen is MediaType.HTML:  # its encoding may be named inside, in a meta element
        return b"\0" not in head or is_text(head, declared_charset(declared))
    return is_text(head, declared_charset(declared))


def _shown(name: str) -> str:
    return "".join(character for character in name if character.isprintable())[:80]
