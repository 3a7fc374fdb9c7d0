"""HTML: the main text of a page, or all of its text when no main part is found."""

import copy
import re
from typing import Any, NamedTuple

import lxml.etree
import lxml.html

from kgl_ingest.domain.charsets import decode
from kgl_ingest.parsing.parsed_text import ParsedText, printable

# The elements whose text nobody reads on the page.
_UNREAD = ("script", "style", "noscript", "template", "svg", "iframe", "object", "textarea", "select")
# How many line breaks stand before and after an element.
_BREAKS = (
    (2, "address|article|aside|blockquote|dl|fieldset|figure|footer|h[1-6]|header|hr|nav|ol|p|pre|section|table|ul"),
    (1, "caption|center|dd|details|div|dt|figcaption|form|legend|li|main|summary|tr"),
)
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w:.-]{1,40})", re.IGNORECASE)
_META_WITHIN = 4096
_XML_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")


class Fragment(NamedTuple):
    """The readable text of a piece of HTML, and its first heading of level 1."""

    text: str
    heading: str | None


def parse(content: bytes, charset: str | None) -> ParsedText:
    """The main text of a page; its title is the page's, else its first heading of level 1, else the first line.

    Raises: ParseFailed `no_text`.
    """
    page = _page(_decode_page(content, charset))
    text = _main_text(page) or _whole_text(page)
    title = page.findtext(".//title") or _heading(page)
    return ParsedText.of(text, title=title, language=page.get("lang") or page.get("xml:lang"))


def read_fragment(source: str) -> Fragment:
    """All the text of some HTML that may be unbalanced, such as a block inside Markdown."""
    page = _page(source)
    return Fragment(_whole_text(page), _heading(page))


def _decode_page(content: bytes, charset: str | None) -> str:
    """In the order of the HTML standard: byte order mark, declared charset, meta element, a guess."""
    meta = _META_CHARSET.search(content[:_META_WITHIN])
    named = charset or (meta[1].decode("ascii", "replace") if meta else None)
    return decode(content, named) or content.decode("cp1252", "replace")


def _page(source: str) -> Any:
    parser = lxml.html.HTMLParser(remove_comments=True, remove_pis=True, huge_tree=True)
    source = _XML_DECLARATION.sub("", printable(source))
    try:
        page = lxml.html.document_fromstring(source, parser, ensure_head_body=True)
    except lxml.etree.ParserError:  # it holds nothing but comments
        return lxml.html.document_fromstring("<p></p>", ensure_head_body=True)
    lxml.etree.strip_elements(page, *_UNREAD, with_tail=False)
    return page


def _main_text(page: Any) -> str:
    import trafilatura

    # a copy, because trafilatura prunes the tree that it is given
    return trafilatura.extract(copy.deepcopy(page), include_comments=False, include_tables=True) or ""


def _heading(page: Any) -> str | None:
    for heading in page.iter("h1"):
        text = " ".join(str(heading.text_content()).split())
        if text:
            return text
    return None


def _whole_text(page: Any) -> str:
    parts: list[str] = []
    breaks = preformatted = 0
    for event, element in lxml.etree.iterwalk(page.find("body"), events=("start", "end")):
        starts = event == "start"
        if element.tag == "pre":
            preformatted += 1 if starts else -1
        if element.tag == "br":
            breaks += starts
        elif starts and element.tag in ("td", "th") and element.getprevious() is not None:
            parts.append(" | ")
        breaks = max(breaks, _breaks_around(str(element.tag)))
        text = (element.text if starts else element.tail) or ""
        if not preformatted:
            text = re.sub(r"\s+", " ", text)
            text = text.lstrip() if breaks else text
        if text:
            parts += ("\n" * breaks, text)
            breaks = 0
    return "".join(parts)


def _breaks_around(tag: str) -> int:
    return next((breaks for breaks, tags in _BREAKS if re.fullmatch(tags, tag)), 0)
