"""What kind of document some content is, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgl_ingest.domain.charsets import declared_charset, decode
from kgl_ingest.domain.media_types import SUPPORTED, EmptyDocument, MediaType, UnsupportedMediaType, recognise

PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj"
PAGE = b"<!-- made by hand -->\n<!DOCTYPE html>\n<html><body><p>Hello</p></body></html>"
TEXT = "Grüße aus Köln\n".encode()
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


@pytest.mark.parametrize(
    ("content", "declared", "filename", "expected"),
    [
        (TEXT, None, None, MediaType.PLAIN),
        (TEXT, "", "notes", MediaType.PLAIN),
        (TEXT, None, "README.md", MediaType.MARKDOWN),
        (TEXT, None, "docs/INDEX.RST", MediaType.RESTRUCTURED_TEXT),
        (TEXT, "application/octet-stream", "a.markdown", MediaType.MARKDOWN),
        (TEXT, "text/plain", "README.md", MediaType.PLAIN),
        (TEXT, "text/markdown; charset=UTF-8; variant=GFM", "README.rst", MediaType.MARKDOWN),
        (TEXT, "Text/X-Markdown", None, MediaType.MARKDOWN),
        (TEXT, "text/x-rst", None, MediaType.RESTRUCTURED_TEXT),
        (TEXT, "text/prs.fallenstein.rst", None, MediaType.RESTRUCTURED_TEXT),
        (b'<p align="center">A README</p>', None, "README.md", MediaType.MARKDOWN),
        ("Grüße".encode("utf-16"), "text/plain", None, MediaType.PLAIN),
        ("Grüße".encode("latin-1"), "text/plain; charset=iso-8859-1", None, MediaType.PLAIN),
        (TEXT, "text/plain; charset=us-ascii", None, MediaType.PLAIN),
        (TEXT[:3], "text/plain", None, MediaType.PLAIN),  # the head ends inside a character
        (PAGE, None, None, MediaType.HTML),
        (PAGE, "text/html", "README.md", MediaType.HTML),
        (PAGE, "application/xhtml+xml", None, MediaType.HTML),
        (b"\xef\xbb\xbf <?xml version='1.0'?><HTML lang=en>", None, None, MediaType.HTML),
        (PAGE.decode().encode("utf-16"), None, None, MediaType.HTML),
        ("<html><p>Grüße</p></html>".encode("cp1252"), "text/html", None, MediaType.HTML),
        (b"<p>a fragment</p>", "text/html", None, MediaType.HTML),
        (PDF, None, None, MediaType.PDF),
        (PDF, "application/pdf", "report.txt", MediaType.PDF),
        (b"junk before the header\n" + PDF, "application/pdf", None, MediaType.PDF),
        (b"The header of a PDF is %PDF-1.7", "text/plain", None, MediaType.PLAIN),
    ],
)
def test_the_type_comes_from_the_content_then_the_declaration_then_the_suffix(
    content: bytes, declared: str | None, filename: str | None, expected: MediaType
) -> None:
    assert recognise(content, declared, filename) is expected


@pytest.mark.parametrize(
    ("content", "declared", "filename", "said"),
    [
        (PNG, "image/png", None, "image/png is not supported"),
        (TEXT, "application/zip", None, SUPPORTED),
        (TEXT, "nonsense", None, "nonsense is not supported"),
        (PNG, None, "picture", "binary"),
        (PNG, "text/plain", None, "binary"),
        (b"text \x00 with NUL", "text/markdown", None, "binary"),
        ("Grüße".encode("latin-1"), "text/plain", None, "charset"),
        ("Grüße".encode("latin-1"), "text/plain; charset=utf-8", None, "charset"),
        (b"\xff\xfe\x00", "text/html", None, "no HTML markup"),
        (b"<html>\x00\xff</html>", "text/html", None, "binary"),
        (TEXT, "text/plain; charset=zlib", None, "zlib is not supported"),
        (TEXT, "text/plain; charset=iso-8859-12", None, "iso-8859-12 is not supported"),
        (PDF, "text/plain", None, "is application/pdf, not text/plain"),
        (PDF, "text/html", None, "send it as application/pdf"),
        (PDF, None, "holiday.html", "is application/pdf"),
        (PAGE, "text/markdown", None, "is text/html, not text/markdown"),
        (PAGE, "application/pdf", None, "is text/html"),
        (TEXT, "application/pdf", None, "no PDF"),
        (TEXT, None, "report.pdf", "no PDF"),
        (TEXT, "text/html", None, "send it as text/plain"),
    ],
)
def test_what_we_do_not_read_is_refused_with_a_sentence_that_says_what_to_do(
    content: bytes, declared: str | None, filename: str | None, said: str
) -> None:
    with pytest.raises(UnsupportedMediaType) as refused:
        recognise(content, declared, filename)
    assert said in refused.value.reason
    assert refused.value.reason.endswith(".")
    assert "send" in refused.value.reason


@pytest.mark.parametrize("content", [b"", b" \r\n\t "])
def test_an_empty_document_is_refused_whatever_it_is_called(content: bytes) -> None:
    with pytest.raises(EmptyDocument, match="empty"):
        recognise(content, "application/pdf", "a.pdf")


def test_a_refusal_repeats_the_declared_type_in_short_and_printable_form() -> None:
    with pytest.raises(UnsupportedMediaType) as refused:
        recognise(TEXT, "evil/\r\n\x1b[31m" + "x" * 10_000, None)
    assert refused.value.reason.isprintable()
    assert len(refused.value.reason) < 300


def test_binary_content_far_behind_the_beginning_is_found_in_the_whole_content() -> None:
    content = "é".encode() * 2_000_000
    assert recognise(content, "text/plain", None) is MediaType.PLAIN
    with pytest.raises(UnsupportedMediaType):
        recognise(content + b"\xff", "text/plain", None)


@given(st.binary(), st.sampled_from([None, "text/plain", "text/html", "application/pdf", "text/plain;charset=utf-16"]))
def test_any_bytes_are_recognised_or_refused(content: bytes, declared: str | None) -> None:
    try:
        assert recognise(content, declared, None) in MediaType
    except (UnsupportedMediaType, EmptyDocument) as refused:
        assert refused.reason


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (None, None),
        ("text/plain", None),
        ("text/plain; charset=", None),
        ('text/plain; variant=GFM; Charset="UTF-8"', "utf-8"),
    ],
)
def test_the_charset_is_a_parameter_of_the_media_type(declared: str | None, expected: str | None) -> None:
    assert declared_charset(declared) == expected


def test_a_byte_order_mark_counts_more_than_the_declared_charset() -> None:
    assert decode("é".encode("utf-8-sig"), "latin-1") == "é"
    assert decode("é".encode("utf-32"), None) == "é"
    assert decode(b"\xff\xfe\x00", None) is None
