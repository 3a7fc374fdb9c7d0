"""Each format as clean text, and hostile documents of each."""

import io
import re
import unicodedata
import zlib
from pathlib import Path

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgl_ingest.domain.media_types import MediaType
from kgl_ingest.parsing import formats
from kgl_ingest.parsing.parsed_text import VERDICTS, ParsedText, ParseFailed, clean
from kgl_ingest.parsing.testing import pdf_of


def parse(source: str | bytes, media_type: MediaType, charset: str | None = None) -> ParsedText:
    return formats.parse(source.encode() if isinstance(source, str) else source, media_type, charset)


# clean text


def test_clean_text_has_one_form() -> None:
    assert clean("\n\na\r\nb\rc\u2028d  \t\n\n\n\n\ne\x00\x1b\x9f\ufeff\td e\u0301\n") == "a\nb\nc\nd\n\ne\td \u00e9"


@given(st.text())
def test_cleaning_twice_changes_nothing_more(raw: str) -> None:
    once = clean(raw)
    assert clean(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in once if c not in "\n\t")


@pytest.mark.parametrize(
    "media_type", [MediaType.PLAIN, MediaType.MARKDOWN, MediaType.RESTRUCTURED_TEXT, MediaType.HTML]
)
def test_a_document_without_text_fails(media_type: MediaType) -> None:
    with pytest.raises(ParseFailed) as failed:
        parse(" \n\x01\n", media_type)
    assert failed.value.code == "no_text"


@pytest.mark.parametrize("media_type", [MediaType.PLAIN, MediaType.MARKDOWN, MediaType.RESTRUCTURED_TEXT])
@pytest.mark.parametrize("content", [b"caf\xe9", b"a\0b"])
def test_bytes_that_are_no_text_fail(media_type: MediaType, content: bytes) -> None:
    with pytest.raises(ParseFailed) as failed:
        parse(content, media_type)
    assert failed.value.code == "not_text"


@given(st.text(alphabet=st.sampled_from("ab*_`#[]()<>!-|:.~=\\&;\n \t1\"'/é"), max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_text_is_parsed_or_fails_in_the_known_way(source: str) -> None:
    for media_type in (MediaType.MARKDOWN, MediaType.RESTRUCTURED_TEXT, MediaType.HTML):
        try:
            parsed = parse(source, media_type)
        except ParseFailed as failed:
            assert failed.code == "no_text"
        else:
            assert parsed.text == clean(parsed.text) != ""
            assert 0 < len(parsed.title) <= 200


# plain text


def test_plain_text_is_kept_and_its_first_line_is_its_title() -> None:
    parsed = parse("\n  The title  here\n\n    code *stays*\n", MediaType.PLAIN)
    assert parsed == ParsedText("The title here", "  The title  here\n\n    code *stays*")


def test_plain_text_is_read_in_its_declared_charset() -> None:
    assert parse("Grüße".encode("latin-1"), MediaType.PLAIN, "iso-8859-1").text == "Grüße"


def test_a_long_title_is_cut_at_200_characters() -> None:
    title = parse("word " * 100, MediaType.PLAIN).title
    assert len(title) <= 200
    assert title.endswith("word…")


# Markdown

MARKDOWN = """\
<!-- hidden remark -->
[![build](https://ci.example/badge.svg)](https://ci.example)

# The *Title* of `it`

First line
of [a paragraph](https://target.example "tip") with ![a picture](pic.png)&amp;
<b>bold</b> <script>alert(1)</script>text.\\
Next line.

- one
- two
  - deeper

3. three
4. four

   more of four

```python
def f(x):

    return x  # <kept>
```

| Name | Use |
|------|-----|
| `kgl` | a **tool** |

<details><summary>More</summary>
<p>Inside &eacute; <script>alert(2)</script></p>
</details>

> quoted

[ref]: https://reference.example
"""
MARKDOWN_TEXT = """\
The Title of it

First line of a paragraph with & bold text.
Next line.

- one
- two
  - deeper

3. three

4. four

   more of four

def f(x):

    return x  # <kept>

Name | Use
kgl | a tool

More

Inside é

quoted"""


def test_markdown_becomes_its_text_without_markup() -> None:
    parsed = parse(MARKDOWN, MediaType.MARKDOWN)
    assert parsed.text == MARKDOWN_TEXT
    assert parsed.title == "The Title of it"


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("---\ntitle: 'From the front'\ntags:\n  - a\n---\n# Heading\n\ntext", "From the front"),
        ("intro\n\n# Heading\n\ntext", "Heading"),
        ('<div>\n<h1 align="center"><img src="x.png">Project</h1>\n</div>\n\n## Install\n\ntext', "Project"),
        ("first line\n\n## Install\n\ntext", "first line"),
    ],
)
def test_the_title_of_markdown_is_in_the_front_matter_or_the_first_main_heading(source: str, title: str) -> None:
    assert parse(source, MediaType.MARKDOWN).title == title


def test_front_matter_is_no_text_but_a_ruled_off_beginning_is() -> None:
    assert parse("---\ntitle: x\n---\nbody", MediaType.MARKDOWN).text == "body"
    assert "a sentence, no key" in parse("---\na sentence, no key\n\n---\nbody", MediaType.MARKDOWN).text


# reStructuredText

RST = """\
=====
Title
=====

.. image:: https://ci.example/badge.svg
   :target: https://ci.example

.. |shield| image:: https://ci.example/shield.svg

|shield|

A paragraph with `a link <https://target.example>`_,
:py:class:`~package.module.Thing`, :ref:`the shown text <target>` and ``literal *text*``.

.. comment that nobody reads

.. unknown-box:: Its heading
   :option: not read

   The *content* of it.

.. note:: Take note.

Section
-------

term
   its definition

:Author: Somebody

- one
- two

#. first
#. second

::

    literal
        block

.. code-block:: python
   :emphasize-lines: 1

   print("kept")

-o, --out=FILE  where to write
-v              say more

=====  =====
Name   Use
=====  =====
kgl    tool
=====  =====

A footnote [1]_.

.. [1] Its text.

| line one
| line two

.. toctree::
   other-document
"""
RST_TEXT = """\
Title

A paragraph with a link, Thing, the shown text and literal *text*.

Its heading

The content of it.

Take note.

Section

term
  its definition

Author: Somebody

- one
- two

1. first
2. second

literal
    block

print("kept")

-o, --out=FILE: where to write
-v: say more

Name | Use
kgl | tool

A footnote 1.

1: Its text.

line one
line two"""


def test_restructured_text_becomes_its_text_without_markup() -> None:
    parsed = parse(RST, MediaType.RESTRUCTURED_TEXT)
    assert parsed.text == RST_TEXT
    assert parsed.title == "Title"


@pytest.mark.parametrize(
    "directive",
    [
        ".. include:: {path}",
        ".. literalinclude:: {path}",
        ".. raw:: html\n   :file: {path}",
        ".. raw:: html\n   :url: file://{path}",
        ".. csv-table:: A table\n   :file: {path}",
        ".. csv-table:: A table\n   :url: file://{path}",
        ".. raw:: html\n\n   <script>canary-inside</script>",
        ".. role:: html(raw)\n   :format: html\n\n:html:`canary-inside`",
        ".. |x| include:: {path}\n\n|x|",
    ],
)
def test_restructured_text_reads_no_file_and_passes_no_raw_content(directive: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("canary-inside")
    source = f"Before\n\n{directive.format(path=secret)}\n\nAfter"
    text = parse(source, MediaType.RESTRUCTURED_TEXT).text
    assert "canary-inside" not in text
    assert text.startswith("Before")
    assert text.endswith("After")


def test_captions_cells_and_nested_line_blocks_are_read() -> None:
    source = """\
.. table:: The caption

   +------+------------+
   | a    | first      |
   |      |            |
   |      | second     |
   +------+------------+

| outer
|   inner
"""
    assert parse(source, MediaType.RESTRUCTURED_TEXT).text == "The caption\na | first second\n\nouter\ninner"


def test_a_role_that_one_document_defines_means_nothing_in_the_next() -> None:
    use = "Text :shout:`loud <quiet>` text"
    before = parse(use, MediaType.RESTRUCTURED_TEXT)
    parse(f".. role:: shout(literal)\n\n{use}", MediaType.RESTRUCTURED_TEXT)
    assert parse(use, MediaType.RESTRUCTURED_TEXT) == before


def test_restructured_text_does_not_say_today_s_date() -> None:
    assert parse("On |today| it was read.\n\n.. |today| date::", MediaType.RESTRUCTURED_TEXT).text == "On it was read."


@pytest.mark.parametrize(
    "source", ["word " * 3000, ".. container::\n" + "".join(f"{'  ' * n}- a\n\n" for n in range(1, 400))]
)
def test_what_docutils_gives_up_on_is_plain_text(source: str) -> None:
    assert parse(source, MediaType.RESTRUCTURED_TEXT).text == clean(source)


# HTML

ARTICLE = "".join(
    f"<p>Paragraph {n} of the article says that graphs join what documents only mention, and it is long.</p>"
    for n in range(12)
)
PAGE = f"""<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html><html lang="en-GB"><head><title> The page &amp;
its title </title><style>.canary-style {{}}</style>
<script type="application/ld+json">{{"articleBody": "canary-json {"x" * 300}"}}</script></head>
<body><nav><ul><li><a href="/">Home</a></li></ul></nav>
<article><h1>Heading</h1>{ARTICLE}<script>document.write("canary-script")</script></article>
<noscript>canary-noscript</noscript><footer>Imprint</footer></body></html>"""


def test_the_main_text_of_a_page_is_read_without_its_navigation() -> None:
    parsed = parse(PAGE, MediaType.HTML)
    assert parsed.title == "The page & its title"
    assert parsed.language == "en-GB"
    assert "Paragraph 0 of the article" in parsed.text
    assert "Paragraph 11 of the article" in parsed.text
    assert "Home" not in parsed.text
    assert "canary" not in parsed.text


def test_a_page_without_a_main_part_is_read_whole_and_scripts_stay_out() -> None:
    source = """<body><div>Menu<br>Item</div><script>canary()</script><style>canary</style>
    <table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table><pre><code>x = 1
    y = 2</code></pre></body>"""
    text = formats_whole_text(source)
    assert text == "Menu\nItem\n\na | b\n1 | 2\n\nx = 1\n    y = 2"


def formats_whole_text(source: str) -> str:
    from kgl_ingest.parsing import html

    return clean(html.read_fragment(source).text)


@pytest.mark.parametrize("body", ["<h1>Short</h1><p>page</p>", "<div>Short page</div>", "Short <i>page</i>"])
def test_a_short_page_keeps_its_text(body: str) -> None:
    parsed = parse(f"<html><body>{body}</body></html>", MediaType.HTML)
    assert parsed.text.split() == ["Short", "page"]
    assert parsed.title.startswith("Short")


@pytest.mark.parametrize(
    ("content", "charset"),
    [
        ("<html><p>Grüße</p></html>".encode("cp1252"), None),
        ("<html><p>Grüße</p></html>".encode("utf-16"), None),
        ('<html><meta charset="iso-8859-5"><p>Привет Grüße</p></html>'.replace("Grüße", "").encode("iso-8859-5"), None),
        ("<html><p>Привет</p></html>".encode("koi8-r"), "koi8-r"),
    ],
)
def test_a_page_is_decoded_as_browsers_do(content: bytes, charset: str | None) -> None:
    assert parse(content, MediaType.HTML, charset).text.strip() in ("Grüße", "Привет")


@pytest.mark.parametrize("source", ["<!-- only a remark -->", "<html><script>alert(1)</script></html>", "<br>"])
def test_a_page_that_shows_nothing_fails(source: str) -> None:
    with pytest.raises(ParseFailed) as failed:
        parse(source, MediaType.HTML)
    assert failed.value.code == "no_text"


def test_entities_of_a_document_type_are_not_expanded() -> None:
    bomb = "<!DOCTYPE html [<!ENTITY a 'canary'><!ENTITY b '&a;&a;'>]><html><p>x &b; y</p></html>"
    assert "canarycanary" not in parse(bomb, MediaType.HTML).text


# PDF


def test_a_pdf_is_read_page_by_page() -> None:
    parsed = parse(pdf_of("First page", "Second page", title="The report"), MediaType.PDF)
    assert parsed == ParsedText("The report", "First page\n\nSecond page")


def test_the_title_of_an_untitled_pdf_is_its_first_line() -> None:
    assert parse(pdf_of("First page", "Second page"), MediaType.PDF).title == "First page"


@pytest.mark.parametrize(("good", "bad"), [(b"/Title (The report)", b"/Title [1 2]"), (b"/Info 6 0 R", b"/Info (x)")])
def test_damaged_information_does_not_take_the_pages_away(good: bytes, bad: bytes) -> None:
    content = pdf_of("The page", title="The report")
    assert good in content
    assert parse(content.replace(good, bad), MediaType.PDF) == ParsedText("The page", "The page")


def test_the_language_of_a_pdf_is_the_one_of_its_catalogue() -> None:
    content = pdf_of("The page").replace(b"/Type /Catalog", b"/Type /Catalog /Lang (de-AT)")
    assert parse(content, MediaType.PDF).language == "de-AT"


def protected(user_password: str) -> bytes:
    writer = pypdf.PdfWriter(io.BytesIO(pdf_of("Text inside")))
    writer.encrypt(user_password, owner_password="owner", algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_a_pdf_with_a_password_fails_and_one_that_opens_without_is_read() -> None:
    with pytest.raises(ParseFailed) as failed:
        parse(protected("secret"), MediaType.PDF)
    assert failed.value.code == "pdf_encrypted"
    assert parse(protected(""), MediaType.PDF).text == "Text inside"


@pytest.mark.parametrize(
    "content",
    [
        b"%PDF-1.7\nnothing more",
        pdf_of("Text")[:150],
        pdf_of("Text").replace(b"/Kids [4 0 R]", b"/Kids [2 0 R]"),
        pdf_of("Text").replace(b"/Contents", b"/Contants /Type (x) /Contents").replace(b"BT", b"((("),
    ],
)
def test_a_broken_pdf_fails(content: bytes) -> None:
    with pytest.raises(ParseFailed) as failed:
        parse(content, MediaType.PDF)
    assert failed.value.code == "pdf_broken"


def test_a_pdf_that_unpacks_to_far_more_than_it_is_fails() -> None:
    bomb = pdf_of("Text", compress=lambda content: zlib.compress(content + b" " * 100_000_000, 9))
    assert len(bomb) < 1_000_000
    with pytest.raises(ParseFailed) as failed:
        parse(bomb, MediaType.PDF)
    assert failed.value.code == "pdf_broken"


def test_a_pdf_of_pictures_only_fails_and_names_the_cure() -> None:
    with pytest.raises(ParseFailed, match="OCR") as failed:
        parse(pdf_of(""), MediaType.PDF)
    assert failed.value.code == "no_text"


def test_every_verdict_about_a_document_is_known_as_one() -> None:
    sources = [path.read_text() for path in Path(formats.__file__).parent.glob("*.py")]
    assert {code for text in sources for code in re.findall(r'ParseFailed\("(\w+)"', text)} == VERDICTS
