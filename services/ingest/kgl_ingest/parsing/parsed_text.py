"""What every parser returns, and how it fails."""

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Self

from kgl_ingest.domain.charsets import decode

TITLE_CHARACTERS = 200
_LINE_END = re.compile("\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]")
_UNPRINTABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")
_BLANK_LINES = re.compile(r"\n{3,}")
_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")


VERDICTS = frozenset({"no_text", "not_text", "parser_died", "parser_timeout", "pdf_broken", "pdf_encrypted"})
"""The codes of ParseFailed."""


class ParseFailed(Exception):
    """The document cannot be read, now or later; `code` is stable, `sentence` says what to do."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.sentence = sentence


class ParserUnavailable(Exception):
    """No parser could be started, or the sandbox is closed; nothing is said about the document: try later."""


@dataclass(frozen=True, slots=True)
class ParsedText:
    """A document as text: NFC, lines end in \\n, no control characters, at most one blank line in a row."""

    title: str
    text: str
    language: str | None = None

    @classmethod
    def of(cls, raw: str, *, title: str | None = None, language: str | None = None) -> Self:
        """Clean `raw`; without a title the first line is the title.

        Raises: ParseFailed `no_text` when nothing is left.
        """
        text = clean(raw)
        if not text:
            raise ParseFailed("no_text", "The document holds no text; send one that does (scans need OCR first).")
        named = _one_line(title or "") or _one_line(text.lstrip().partition("\n")[0])
        tag = (language or "").strip()
        return cls(named, text, tag if _LANGUAGE_TAG.fullmatch(tag) else None)

    def named(self, title: str | None) -> Self:
        """The same text under another title; a blank one changes nothing."""
        return replace(self, title=_one_line(title or "") or self.title)


def clean(raw: str) -> str:
    """The text in the one form that offsets, hashes and searches count on."""
    text = unicodedata.normalize("NFC", printable(raw))
    lines = "\n".join(line.rstrip() for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", lines).strip("\n")


def printable(raw: str) -> str:
    """The text with lines that end in \\n, and without control characters but \\n and \\t."""
    return _UNPRINTABLE.sub("", _LINE_END.sub("\n", raw))


def decode_text(content: bytes, charset: str | None) -> str:
    """The printable text; without a `charset` it is UTF-8.

    Raises: ParseFailed `not_text` when the bytes cannot be decoded, or hold NUL.
    """
    text = decode(content, charset)
    if text is None or "\0" in text:
        raise ParseFailed("not_text", "The document is not text in its charset; send it as UTF-8.")
    return printable(text)


def _one_line(title: str) -> str:
    line = " ".join(clean(title).split())
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1].rstrip() + "…"
