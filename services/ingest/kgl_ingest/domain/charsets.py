"""Which character encoding a text is in: its byte order mark, else what was declared, else UTF-8."""

import codecs
import re

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Python knows "encodings" that decompress or run quadratic, and remembers every unknown name for ever.
_TEXT_ENCODING = re.compile(
    r"utf-?8|utf-?16(-?[bl]e)?|utf-?32(-?[bl]e)?|(us-)?ascii|iso-?8859-?(\d|1[0-6])|latin-?(\d|10)"
    r"|(windows|cp)-?(125\d|874|866|932|949)|koi8-[rut]|gbk|gb2312|gb18030|big5(-?hkscs)?"
    r"|euc-?(jp|kr)|shift-?jis|iso-2022-jp"
)
_SLICE_BYTES = 1 << 20


def declared_charset(declared: str | None) -> str | None:
    """The `charset` parameter of a media type, lower case; None when there is none."""
    for parameter in (declared or "").split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip("\"'").lower() or None
    return None


def is_known_charset(charset: str) -> bool:
    return _codec(charset) is not None


def decode(content: bytes, charset: str | None) -> str | None:
    """The whole text, or None when the bytes are in none of the encodings that they may be in."""
    for name in _candidates(content, charset):
        try:
            return content.decode(name)
        except UnicodeError:
            continue
    return None


def is_text(content: bytes, charset: str | None) -> bool:
    """True when `content`, or the document that it is the beginning of, can be decoded and has no NUL."""
    return any(_reads_as(content, name) for name in _candidates(content, charset))


def _candidates(content: bytes, charset: str | None) -> list[str]:
    for mark, name in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return [name]
    declared = _codec(charset) if charset else None
    return [declared, "utf-8"] if declared else ["utf-8"]


def _codec(charset: str) -> str | None:
    label = charset.strip().lower().replace("_", "-")
    if not _TEXT_ENCODING.fullmatch(label):
        return None
    try:
        return codecs.lookup(label).name
    except LookupError:
        return None


def _reads_as(content: bytes, name: str) -> bool:
    decoder = codecs.getincrementaldecoder(name)()
    try:
        return not any(
            "\0" in decoder.decode(content[start : start + _SLICE_BYTES])
            for start in range(0, len(content), _SLICE_BYTES)
        )
    except UnicodeError:
        return False
