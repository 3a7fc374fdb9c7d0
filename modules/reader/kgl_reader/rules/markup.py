"""Markup inside a line (Markdown, reStructuredText, HTML): blanked in place, or reduced to its words.

Every expression here is linear in the length of the text: a repeated part either is possessive and stops at
the character that could start the next match, or has a small bound.
"""

import re

_TARGET = r"\((?:[^()\n]++|\([^()\n]*+\))*+\)"
_IMAGE = re.compile(rf"!\[[^\[\]\n]*+\]{_TARGET}|\|[\w .-]{{1,60}}\|_?(?=\s|$)")
_LINK = re.compile(rf"\[([^\[\]]{{0,300}})\]{_TARGET}")
_REFERENCE = re.compile(r"\[([^\[\]]{1,300})\]\[[^\[\]\n]{0,100}\]")
_RST_LINK = re.compile(r"`([^`<>\n]{1,200}?)\s*<[^<>`\n]{1,500}>`__?")
_RST_REFERENCE = re.compile(r"`([^`<>\n]{1,200})`__?(?!\w)")
_ROLE = re.compile(r":[a-z][a-z:+-]{1,30}:(?=`)")
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,1000}>")
_AUTOLINK = re.compile(r"<(https?://[^<>\s]{1,500})>")
_ADDRESS = re.compile(
    r"\b(?:https?://|www\.)[^\s<>()\[\]`]+|\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})++"
    r"|(?<!\w)@\w[\w-]{0,63}"
)
_CODE = re.compile(r"(`{1,2})([^`\n]{1,300})\1")
_WORD_IN_CODE = re.compile(r"[^\W\d_][\w-]*")
_LINE_START = re.compile(r"^[ \t]*+(?:>[ \t>]*+)?(?:(?:[-*+•]|\d{1,3}[.)]|#{1,6})[ \t]++)?", re.MULTILINE)
_QUOTE = re.compile(r"\n[ \t]*+>[ \t>]*+")
_STRONG = re.compile(r"\*\*+|(?<!\w)__++|(?<!_)__++(?!\w)")
_ACTIVE = re.compile(r"<[A-Za-z/!?]|\]\s?[(\[]|^\[[^\]]{0,300}\]:")


def blanked(text: str) -> str:
    """Return a text of the same length in which markup, addresses and code spans are spaces.

    What a reader sees stays in its place: link texts, headings, and code spans of a single word.
    """
    text = _without_comments(text)
    text = _ROLE.sub(_spaces, _IMAGE.sub(_spaces, text))
    for pattern in (_LINK, _REFERENCE, _RST_LINK, _RST_REFERENCE):
        text = pattern.sub(_only_group, text)
    text = _CODE.sub(_code_word, _ADDRESS.sub(_spaces, _TAG.sub(_spaces, text)))
    return _LINE_START.sub(_spaces, text)


def readable(text: str) -> str:
    """Return the text as one line of Markdown without links, images, HTML and strong emphasis."""
    text = _ROLE.sub("", _IMAGE.sub("", _without_comments(text)))
    for pattern in (_LINK, _REFERENCE, _RST_LINK, _RST_REFERENCE, _AUTOLINK):
        text = pattern.sub(r"\1", text)
    text = _STRONG.sub("", _QUOTE.sub(" ", _TAG.sub("", text)))
    return " ".join(text.split())


def is_inert(markdown: str) -> bool:
    """Return whether the text is free of what could become a link or HTML where it is shown."""
    return _ACTIVE.search(markdown) is None


def _without_comments(text: str) -> str:
    parts: list[str] = []
    done = 0
    while (start := text.find("<!--", done)) >= 0 and (end := text.find("-->", start)) >= 0:
        parts += (text[done:start], " " * (end + 3 - start))
        done = end + 3
    return "".join([*parts, text[done:]])


def _spaces(found: re.Match[str]) -> str:
    return " " * len(found[0])


def _only_group(found: re.Match[str]) -> str:
    before = found.start(1) - found.start()
    return " " * before + found[1] + " " * (found.end() - found.end(1))


def _code_word(found: re.Match[str]) -> str:
    if not _WORD_IN_CODE.fullmatch(found[2]):
        return _spaces(found)
    edge = " " * len(found[1])
    return edge + found[2] + edge
