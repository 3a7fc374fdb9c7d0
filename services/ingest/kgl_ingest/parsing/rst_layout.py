"""A docutils tree as lines of text."""

from collections.abc import Iterator

from docutils import nodes

from kgl_ingest.parsing.layout import Layout

_UNREAD = (
    nodes.comment,
    nodes.image,
    nodes.pending,
    nodes.raw,
    nodes.substitution_definition,
    nodes.system_message,
)


def lay_out(document: nodes.document) -> str:
    """Raises: RecursionError for a tree that is nested too deep."""
    layout = Layout()
    _children(document, layout)
    return layout.text()


def _children(parent: nodes.Node, layout: Layout) -> None:
    for child in parent.children:
        _block(child, layout)


def _block(node: nodes.Node, layout: Layout) -> None:
    match node:
        case nodes.literal_block() | nodes.doctest_block() | nodes.math_block():
            layout.block(node.astext())
        case nodes.line_block():
            layout.block("\n".join(_lines(node)))
        case nodes.bullet_list() | nodes.enumerated_list():
            _list(node, layout)
        case nodes.definition_list_item():
            _definition(node, layout)
        case nodes.field() | nodes.option_list_item() | nodes.footnote() | nodes.citation():
            _named(node, layout)
        case nodes.table():
            _table(node, layout)
        case nodes.TextElement() | nodes.Text():
            layout.block(_inline(node))
        case _ if not isinstance(node, _UNREAD):
            _children(node, layout)


def _list(node: nodes.Element, layout: Layout) -> None:
    start = int(node.get("start", 1))
    compact = all(len(item.children) <= 1 for item in node.children)
    layout.gap()
    for number, item in enumerate(node.children, start):
        layout.enter_item("- " if isinstance(node, nodes.bullet_list) else f"{number}. ")
        if compact and number > start:
            layout.attach()
        _children(item, layout)
        layout.leave_item()
    layout.gap()


def _definition(item: nodes.Element, layout: Layout) -> None:
    layout.block(", ".join(_inline(child) for child in item.children if not isinstance(child, nodes.definition)))
    layout.enter_item("  ")
    layout.attach()
    for child in item.children:
        if isinstance(child, nodes.definition):
            _children(child, layout)
    layout.leave_item()


def _named(node: nodes.Element, layout: Layout) -> None:
    """A field, option or note: its name, then its body on the same line."""
    name, *body = node.children
    shown = (
        ", ".join(_inline(part) for part in name.children) if isinstance(name, nodes.option_group) else _inline(name)
    )
    layout.enter_item(f"{shown}: ", indent=2)
    if type(node.previous_sibling()) is type(node):
        layout.attach()
    for child in body:
        _block(child, layout)
    layout.leave_item()


def _table(node: nodes.table, layout: Layout) -> None:
    layout.gap()
    for child in node.children:
        if isinstance(child, nodes.title):
            layout.block(_inline(child))
    for row in node.findall(nodes.row):
        layout.row(_cell(entry) for entry in row.children)
    layout.gap()


def _cell(entry: nodes.Node) -> str:
    layout = Layout()
    _children(entry, layout)
    return layout.text()


def _lines(block: nodes.Element) -> Iterator[str]:
    for child in block.children:
        if isinstance(child, nodes.line_block):
            yield from _lines(child)
        else:
            yield _inline(child)


def _inline(node: nodes.Node) -> str:
    return " ".join("".join(_words(node)).split())


def _words(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, nodes.Text):
        yield node.astext()
    elif not isinstance(node, _UNREAD):
        if isinstance(node, nodes.option_argument):
            yield str(node.get("delimiter", " "))
        for child in node.children:
            yield from _words(child)
