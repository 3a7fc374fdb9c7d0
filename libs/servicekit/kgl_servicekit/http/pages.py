"""Lists: one page at a time, with an opaque cursor for the next."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from kgl_servicekit.errors import BadRequest, Invalid
from kgl_servicekit.http.serving import kit_of
from kgl_servicekit.ids import MalformedCursor, decode_cursor, encode_cursor

T = TypeVar("T")

DEFAULT_LIMIT = 50


class CursorMalformed(BadRequest, code="cursor_malformed"):
    """The cursor is not one of ours; start the list again without it."""


class Page(BaseModel, Generic[T]):
    """A part of a list; `next` is the cursor of the following part, null at the end."""

    model_config = ConfigDict(frozen=True)

    items: tuple[T, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list is asked for; `position` is what the last row's key was, None at the start."""

    limit: int = DEFAULT_LIMIT
    position: Any = None

    @property
    def fetch(self) -> int:
        """How many rows to read: one more than are shown, which tells whether there is a next page."""
        return self.limit + 1


async def _window(
    request: Request,
    limit: Annotated[int, Query(ge=1, description="items on a page; 200 at most")] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(max_length=2048, description="`next` of the page before")] = None,
) -> Window:
    largest = kit_of(request).settings.max_page
    if limit > largest:
        place = {"pointer": "#/limit", "location": "query", "code": "too_large", "detail": f"{largest} at most"}
        raise Invalid(errors=[place])
    if cursor is None:
        return Window(limit)
    try:
        return Window(limit, decode_cursor(cursor))
    except MalformedCursor as wrong:
        raise CursorMalformed from wrong


PageParams = Annotated[Window, Depends(_window)]


def page(rows: Sequence[T], limit: int, key: Callable[[T], Any]) -> Page[T]:
    """A page of `limit` rows out of up to `limit + 1` that were read; `key` gives a row's place in the order.

    The place is any JSON value, a list for a compound order: `lambda row: [row.created_at, row.id]`.
    """
    shown = tuple(rows[:limit])
    return Page(items=shown, next=encode_cursor(key(shown[-1])) if len(rows) > limit else None)
