"""reStructuredText as text without its markup, with Sphinx's directives and roles read for their content."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from docutils import nodes
from docutils.core import publish_doctree
from docutils.parsers.rst import Directive, directives, roles

from kgl_ingest.parsing.parsed_text import ParsedText, decode_text
from kgl_ingest.parsing.rst_layout import lay_out

_SETTINGS = {
    "_disable_config": True,
    "docinfo_xform": False,
    "file_insertion_enabled": False,
    "halt_level": 5,
    "raw_enabled": False,
    "report_level": 5,
    "syntax_highlight": "none",
    "traceback": True,
    "warning_stream": False,
}
# They insert what the document does not hold: files, other documents, today's date, lists made of it.
_WITHOUT_TEXT = re.compile(
    r"contents|date|include|index|literalinclude|meta|raw|sectnum|section-numbering|toctree|highlight"
    r"|auto(class|data|exception|function|method|module|summary)|((py:)?current)?module"
)
# docutils has some of these, but drops their text when they carry an option that only Sphinx knows.
_LITERAL = re.compile(r"code|code-block|sourcecode|doctest|testcode|testoutput|prompt|productionlist|mermaid|graphviz")
_TEXT = re.compile(
    r"admonition|attention|caution|compound|container|danger|error|hint|important|note|sidebar|tip|topic|warning"
)


def parse(content: bytes, charset: str | None) -> ParsedText:
    """Prose, headings, lists, tables and code; nothing is read from files, and `raw` passes nothing through.

    What docutils cannot read is taken as plain text.
    Raises: ParseFailed `not_text`, `no_text`.
    """
    source = decode_text(content, charset)
    try:
        document = _doctree(source)
        return ParsedText.of(lay_out(document), title=_title(document))
    except MemoryError:
        raise
    except Exception:  # docutils has no common base for what it raises on odd input
        return ParsedText.of(source)


def _doctree(source: str) -> nodes.document:
    with _forgiving_names():
        return publish_doctree(source, settings_overrides=_SETTINGS)


def _title(document: nodes.document) -> str | None:
    """The title of the document, else of its first section."""
    for title in document.findall(nodes.title):
        if isinstance(title.parent, nodes.document | nodes.section):
            return title.astext()
    return None


class _Body(Directive):
    """A directive that is not docutils' own: its argument and content are read as text, options are not."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True

    class _AnyOption(dict[str, Callable[[str | None], str | None]]):
        def __missing__(self, name: str) -> Callable[[str | None], str | None]:
            return lambda argument: argument

        def __bool__(self) -> bool:
            return True

    option_spec: ClassVar[dict[str, Any]] = _AnyOption()

    def run(self) -> list[nodes.Node]:
        found = nodes.container()
        if self.arguments:
            children, _ = self.state.inline_text(self.arguments[0], self.lineno)
            found += nodes.paragraph("", "", *children)
        self.state.nested_parse(self.content, self.content_offset, found)
        return found.children


class _Literal(_Body):
    """A directive whose content is code."""

    def run(self) -> list[nodes.Node]:
        code = "\n".join(self.content)
        return [nodes.literal_block(code, code)]


class _Nothing(_Body):
    """A directive whose text is not in the document."""

    def run(self) -> list[nodes.Node]:
        return [nodes.inline()]


class _RawRole:
    """Passes nothing through."""

    options: ClassVar = {"format": directives.unchanged}

    def __call__(self, *_: Any, **__: Any) -> tuple[list[nodes.Node], list[nodes.Node]]:
        return [], []


def _text_role(name: str, rawtext: str, text: str, *_: Any, **__: Any) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """What a reader sees of `title <target>`, `~package.Name` and `!name`."""
    title, opening, _target = text.partition("<")
    shown = title.strip() if opening and text.endswith(">") and title.strip() else text.lstrip("!")
    shown = shown.rpartition(".")[2] if shown.startswith("~") else shown
    return [nodes.inline(rawtext, shown)], []


@contextmanager
def _forgiving_names() -> Iterator[None]:
    """Give every unknown directive and role a meaning.

    docutils has no hook for this but its two lookup functions (Sphinx replaces them, too). Roles that a document
    defines are forgotten at the end: docutils keeps them for the next one.
    """
    known_directive, known_role = directives.directive, roles.role

    def directive(name: str, language: Any, document: nodes.document) -> tuple[type[Directive], list[Any]]:
        for pattern, reader in ((_WITHOUT_TEXT, _Nothing), (_LITERAL, _Literal), (_TEXT, _Body)):
            if pattern.fullmatch(name.lower()):
                return reader, []
        found, messages = known_directive(name, language, document)
        return found or _Body, messages

    def role(name: str, language: Any, lineno: int, reporter: Any) -> tuple[Any, list[Any]]:
        found, messages = known_role(name, language, lineno, reporter)
        meant: Any = found or _text_role
        return _RawRole() if meant is roles.raw_role else meant, messages

    vars(directives)["directive"], vars(roles)["role"] = directive, role
    try:
        yield
    finally:
        vars(directives)["directive"], vars(roles)["role"] = known_directive, known_role
        vars(roles)["_roles"].clear()
