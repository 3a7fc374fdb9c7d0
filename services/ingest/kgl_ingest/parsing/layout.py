"""How blocks of a document become lines of text: paragraphs apart, list items and table rows together."""

from collections.abc import Iterable


class Layout:
    """Collects blocks in reading order, indented by the list items that they stand in."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._indents: list[int] = []
        self._first_line: str | None = None
        self._joint: str | None = None

    def block(self, text: str, *, close: bool = False) -> None:
        """Add a block; `close` puts it on the line after the one before it, without a blank line."""
        if not text.strip():
            return
        margin = self._margin()
        joint = self._joint or ("\n" if close else "\n\n")
        start = margin if self._first_line is None else self._first_line
        self._parts += (joint if self._parts else "", start, text.strip("\n").replace("\n", "\n" + margin))
        self._first_line = self._joint = None

    def row(self, cells: Iterable[str]) -> None:
        """Add a table row on one line."""
        self.block(" | ".join(" ".join(cell.split()) for cell in cells), close=True)

    def gap(self) -> None:
        """The next block comes after a blank line, whatever it says itself."""
        self._joint = "\n\n"

    def attach(self) -> None:
        """The next block comes on the next line, whatever it says itself."""
        self._joint = "\n"

    def enter_item(self, marker: str, indent: int | None = None) -> None:
        """The next blocks belong to an item: `marker` before the first line, `indent` spaces before the others."""
        before = self._margin() if self._first_line is None else self._first_line
        self._first_line = before + marker
        self._indents.append(len(marker) if indent is None else indent)

    def leave_item(self) -> None:
        self._indents.pop()
        self._first_line = None

    def text(self) -> str:
        return "".join(self._parts)

    def _margin(self) -> str:
        return " " * sum(self._indents)
