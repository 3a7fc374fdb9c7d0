"""Where a page of a list begins: what stands in a cursor came from a client, so it is read with care."""

from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from kgl_servicekit.http import Window
from kgl_servicekit.http.pages import CursorMalformed

T = TypeVar("T")

_LARGEST = 2**63 - 1


def text_after(window: Window) -> str | None:
    """The text behind which the page begins; None at the start. Raises CursorMalformed (400)."""
    return _after(window, _text)


def id_after(window: Window) -> UUID | None:
    """The id behind which the page begins; None at the start. Raises CursorMalformed (400)."""
    return _after(window, lambda position: UUID(_text(position)))


def number_before(window: Window) -> int | None:
    """The number before which the page begins; None at the start. Raises CursorMalformed (400)."""
    return _after(window, _number)


def _after(window: Window, read: Callable[[object], T]) -> T | None:
    if window.position is None:
        return None
    try:
        return read(window.position)
    except ValueError as wrong:
        raise CursorMalformed() from wrong


def _text(position: object) -> str:
    if not isinstance(position, str) or not position.isprintable():
        raise ValueError("no text")
    return position


def _number(position: object) -> int:
    if not isinstance(position, int) or not 0 <= position <= _LARGEST:
        raise ValueError("no number")
    return position
