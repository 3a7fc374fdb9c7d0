"""Which parts of a text are prose: headings, paragraphs and list items, told from code, tables and badges."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from kgl_reader.rules.document import Document
from kgl_reader.rules.markup import blanked, readable
from kgl_reader.rules.words import WORD, is_weak, stem

Kind = Literal["heading", "prose", "item", "code", "table", "markup"]

_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_HEADING = re.compile(r"#{1,6}\s+\S")
_UNDERLINE = re.compile(r"([=\-~^\"'*+#`.:_])\1{2,}\s*")
_ITEM = re.compile(r"(?:[-*+•]|\d{1,3}[.)])\s+\S")
_DEFINITION = re.compile(r"\[[^\]\n]{1,200}\]:\s|\[!\w{1,20}\]")
_FIELD = re.compile(r":[\w -]{1,30}:(?:\s|$)")
_LONGEST_TITLE = 200
_LONGEST_HEADING = 80
_LONE_TITLE = re.compile(r"[^=<>{}\[\]|\\$;\"]*[\w)'”’»`*&+]\s*")
_CODE = re.compile(
    r"from [\w.]+ import |import [\w.]+(?: as \w+)?(?:, [\w.]+)*$|(?:async )?(?:def|fn|func|function) \w+\("
    r"|class \w+[(:{]|@\w[\w.]*(?:\(.*\))?$|(?:if|for|while|with|try|async with|async for)\b.*:$|return\b"
    r"|#!|//|/\*|[{}]|[\w.\[\]\"']+ (?:=|\+=|:=) ?\S|[A-Z_]+=\S|[\])]+[,;]?$"
    r"|\w[\w.]*\((?:(?:[^()]++|\([^()]*+\))*+\)[,;]?(?:\s+#.*)?)?$"
    r"|(?:pip|pip3|pipx|uv|uvx|conda|python|python3|docker|git|npm|npx|brew|apt|apt-get|sudo|make|cd|curl|wget"
    r"|export|cargo|kubectl|helm|pytest) [-\w./$].*[^.!?:,]$"
)
_SESSION = (">>> ", "... ", "$ ", "% ")
_LETTER = re.compile(r"[^\W\d_]")
_MARKER = re.compile(r"\s*(?:>[ \t>]*)?(?:(?:[-*+•]|\d{1,3}[.)]|#{1,6})\s+)?")
_STOP = re.compile(r"(?<![.!?…])[.!?…]++[)\"'”’»\]*_]*+(?=\s|$)|[。！？]++[」』”）]*+")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|ca|al|approx|resp|Dr|Mr|Mrs|Ms|Prof|St|No|Nr|Fig|Eq|Vol|pp|Inc|Ltd|Corp|Co"
    r"|z\.B|d\.h|bzw|usw|u\.a)|\b[A-Z])\.$"
)


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that belong together, as characters `start` to `end` (exclusive) of the text."""

    kind: Kind
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Outline:
    """A text, the same with its inline markup blanked, and its blocks in order."""

    text: str
    plain: str
    blocks: tuple[Block, ...]

    @classmethod
    def of(cls, text: str) -> "Outline":
        """Divide the text into blocks."""
        plain = blanked(text)
        reader = _LineReader()
        start = 0
        for line in text.split("\n"):
            end = start + len(line)
            reader.take(line, bool(_LETTER.search(plain, start, end)), start)
            start = end + 1
        return cls(text, plain, tuple(_titled(block, text) for block in reader.blocks))

    def speaking(self, *kinds: Kind) -> Iterator[Block]:
        """Yield the blocks of these kinds, by default all that hold words for a reader."""
        wanted = kinds or ("heading", "prose", "item")
        return (block for block in self.blocks if block.kind in wanted)

    def words_of(self, block: Block) -> tuple[int, int]:
        """Return where the block's own words start and end, without its list, quote or heading marker."""
        marker = _MARKER.match(self.text, block.start, block.end)
        start = marker.end() if marker else block.start
        return start, start + len(self.text[start : block.end].rstrip().rstrip("#").rstrip())

    def sentences(self, block: Block) -> Iterator[tuple[int, int]]:
        """Yield the start and end of each sentence of the block; text after the last full stop is one too."""
        start, last = self.words_of(block)
        for stop in _STOP.finditer(self.plain, start, last):
            if self._goes_on(stop):
                continue
            end = self._past_markup(stop.end(), last)
            yield start, end
            start = end + _blank_length(self.text, end, last)
        if start < last:
            yield start, last

    def _goes_on(self, stop: re.Match[str]) -> bool:
        following = self.plain[stop.end() : stop.end() + 40].lstrip()[:1]
        before = self.plain[max(0, stop.start() - 12) : stop.start() + 1]
        return following.islower() or bool(_ABBREVIATION.search(before))

    def _past_markup(self, end: int, last: int) -> int:
        while end < last and self.plain[end] == " " and not self.text[end].isspace():
            end += 1
        return end


def title_of(document: Document, outline: Outline) -> str | None:
    """Return the document's title: that of its first chunk, else a heading before all prose."""
    if document.title:
        return document.title
    for block in outline.speaking():
        start, end = outline.words_of(block)
        title = readable(outline.text[start:end])
        if block.kind != "heading":
            return None
        if not all(is_weak(stem(word)) for word in WORD.findall(title)):
            return title
    return None


class _LineReader:
    """Reads a text line by line; what a line is depends on the lines before it."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._fence = ""
        self._gap = True
        self._literal = False
        self._body: tuple[int, Kind] | None = None

    def take(self, line: str, has_letters: bool, start: int) -> None:
        stripped = line.strip()
        if self._fence:
            self._add("code", start, start + len(line))
            if stripped.startswith(self._fence) and not stripped.strip(self._fence[0]):
                self._fence = ""
                self._gap = True
        elif not stripped:
            self._gap = True
        else:
            kind = self._kind(line, stripped, has_letters)
            continues = kind in ("prose", "item") and not self._gap and not _ITEM.match(stripped.lstrip("> "))
            self._add(kind, start, start + len(line), continues=continues)
            self._gap = False
            self._literal = stripped.endswith("::")

    def _kind(self, line: str, stripped: str, has_letters: bool) -> Kind:
        indent = len(line) - len(line.lstrip())
        inherited = self._inherited(line, indent)
        if inherited:
            return inherited
        fence = _FENCE.match(line)
        if fence and not self._underlines(stripped):
            self._fence = fence[1]
            return "code"
        if stripped.startswith(_SESSION) or self._is_code(stripped):
            return "code"
        if stripped.startswith(".. ") or stripped == ".." or _FIELD.match(stripped):
            self._body = (indent, "markup")
            return "markup"
        if _UNDERLINE.fullmatch(stripped):
            title = self._title()
            if title:
                self.blocks[-1] = Block("heading", title.start, title.end)
            return "markup"
        return self._kind_of_words(stripped.lstrip("> "), indent, has_letters)

    def _kind_of_words(self, words: str, indent: int, has_letters: bool) -> Kind:
        if not has_letters or _DEFINITION.match(words):
            return "markup"
        if _HEADING.match(words):
            return "heading"
        if words.startswith(("|", "+--", "+==")) or " | " in words:
            return "table"
        if _ITEM.match(words):
            return "item"
        after_item = bool(self.blocks) and self.blocks[-1].kind == "item"
        return "item" if after_item and (indent or not self._gap) else "prose"

    def _inherited(self, line: str, indent: int) -> Kind | None:
        """Return the kind that a line has by its indentation under the lines before it."""
        if self._body and indent > self._body[0]:
            return self._body[1]
        self._body = None
        in_list = bool(self.blocks) and self.blocks[-1].kind == "item"
        deep = (indent >= 4 or line.startswith("\t")) and not in_list
        if self._gap and indent and (deep or self._literal):
            self._body = (indent - 1, "code")
            return "code"
        return None

    def _is_code(self, stripped: str) -> bool:
        """Return whether code without a fence starts here or goes on; a `#` above it is a comment."""
        last = self.blocks[-1] if self.blocks else None
        if self._gap or not last:
            return bool(_CODE.match(stripped))
        if last.kind == "heading" and _CODE.match(stripped):
            self.blocks[-1] = replace(last, kind="code")
        return self.blocks[-1].kind == "code"

    def _title(self) -> Block | None:
        """Return the prose that a line of signs would make a heading."""
        last = self.blocks[-1] if self.blocks and not self._gap else None
        return last if last and last.kind == "prose" and last.end - last.start <= _LONGEST_TITLE else None

    def _underlines(self, stripped: str) -> bool:
        """Return whether this is as long as the title above it, and so no fence."""
        title = self._title()
        return bool(title and _UNDERLINE.fullmatch(stripped) and len(stripped) >= title.end - title.start)

    def _add(self, kind: Kind, start: int, end: int, *, continues: bool = False) -> None:
        last = self.blocks[-1] if self.blocks else None
        if last and last.kind == kind and (kind == "code" or continues):
            self.blocks[-1] = Block(kind, last.start, end)
        else:
            self.blocks.append(Block(kind, start, end))


def _titled(block: Block, text: str) -> Block:
    """Return a heading for a short line that stands alone and is no sentence."""
    if block.kind != "prose" or block.end - block.start > _LONGEST_HEADING or "\n" in text[block.start : block.end]:
        return block
    return replace(block, kind="heading") if _LONE_TITLE.fullmatch(text, block.start, block.end) else block


def _blank_length(text: str, start: int, last: int) -> int:
    length = 0
    while start + length < last and text[start + length].isspace():
        length += 1
    return length
