"""Markdown (CommonMark with tables and strikethrough) as text without its markup."""

import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from kgl_ingest.parsing.layout import Layout
from kgl_ingest.parsing.parsed_text import ParsedText, decode_text

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n((?:[\w-]+:.*\n|[ \t]+.*\n|- .*\n|#.*\n|\n)+)---[ \t]*(?:\n|\Z)")
_FRONT_TITLE = re.compile(r"^title:[ \t]*(.+)$", re.MULTILINE)
_HIDDEN_TAG = re.compile(r"<(/?)(?:script|style)\b", re.IGNORECASE)
_BREAK_TAG = re.compile(r"<br\b", re.IGNORECASE)
_NESTING = 100


def parse(content: bytes, charset: str | None) -> ParsedText:
    """Prose, headings, lists, tables and code; no images, link targets, HTML tags or front matter.

    The title is the one of the front matter, else the first heading of level 1, else the first line.
    Raises: ParseFailed `not_text`, `no_text`.
    """
    source = decode_text(content, charset)
    front = _FRONT_MATTER.match(source)
    reader = _Reader()
    reader.read(_syntax().parse(source[front.end() :] if front else source))
    named = _FRONT_TITLE.search(front[1]) if front else None
    return ParsedText.of(reader.layout.text(), title=named[1].strip(" \"'") if named else reader.heading)


def _syntax() -> MarkdownIt:
    return MarkdownIt("commonmark", {"maxNesting": _NESTING}).enable(["table", "strikethrough"])


class _Reader:
    def __init__(self) -> None:
        self.layout = Layout()
        self.heading: str | None = None
        self._lists: list[int | None] = []
        self._cells: list[str] | None = None
        self._close = False
        self._last = ""

    def read(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            match token.type:
                case "inline":
                    self._inline(_inline_text(token.children or []))
                case "fence" | "code_block":
                    self.layout.block(token.content)
                case "html_block":
                    self._html(token.content)
                case "heading_open" | "paragraph_open":
                    self._close = token.hidden
                case "heading_close" if token.tag == "h1":
                    self.heading = self.heading or self._last
                case "tr_open":
                    self._cells = []
                case "tr_close":
                    self.layout.row(self._cells or [])
                    self._cells = None
                case "table_open" | "table_close":
                    self.layout.gap()
                case _:
                    self._list(token)

    def _inline(self, text: str) -> None:
        self._last = text
        if self._cells is None:
            self.layout.block(text, close=self._close)
        else:
            self._cells.append(text)

    def _html(self, source: str) -> None:
        from kgl_ingest.parsing import html

        fragment = html.read_fragment(source)
        self.heading = self.heading or fragment.heading
        self.layout.block(fragment.text)

    def _list(self, token: Token) -> None:
        match token.type:
            case "bullet_list_open" | "ordered_list_open":
                if not self._lists:
                    self.layout.gap()
                ordered = token.type == "ordered_list_open"
                self._lists.append(int(token.attrGet("start") or 1) if ordered else None)
            case "bullet_list_close" | "ordered_list_close":
                self._lists.pop()
                if not self._lists:
                    self.layout.gap()
            case "list_item_open":
                number = self._lists[-1]
                self.layout.enter_item("- " if number is None else f"{number}. ")
                if number is not None:
                    self._lists[-1] = number + 1
            case "list_item_close":
                self.layout.leave_item()


def _inline_text(children: Sequence[Token]) -> str:
    parts: list[str] = []
    hidden = 0
    for token in children:
        if token.type == "html_inline":
            if tag := _HIDDEN_TAG.match(token.content):
                hidden = max(0, hidden + (-1 if tag[1] else 1))
            elif _BREAK_TAG.match(token.content):
                parts.append("\n")
        elif hidden:
            continue
        elif token.type in ("text", "code_inline"):
            parts.append(token.content)
        elif token.type == "softbreak":
            parts.append(" ")
        elif token.type == "hardbreak":
            parts.append("\n")
    return "\n".join(" ".join(line.split()) for line in "".join(parts).split("\n"))
