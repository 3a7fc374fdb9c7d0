"""Bodies: read up to a limit, in the format that the route takes, after the caller is known."""

from typing import TYPE_CHECKING, Any

from fastapi import params
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from kgl_servicekit.errors import BadRequest, TooLarge, UnsupportedType
from kgl_servicekit.http.strict_json import parse_json

if TYPE_CHECKING:
    from kgl_servicekit.http.routing import ApiRoute

UPLOAD_OVERHEAD = 64 * 1024
MOST_FILES = 10
MOST_FIELDS = 100
LARGEST_FIELD = 1024 * 1024

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


class FormMalformed(BadRequest, code="form_malformed"):
    """The form cannot be read: it breaks off, or has too many or too large parts."""


class LengthMalformed(BadRequest, code="length_malformed"):
    """Content-Length is one number of bytes."""


class KitRequest(Request):
    """A request whose body has a limit, and whose JSON is read strictly."""

    def __init__(self, scope: Scope, receive: Receive, limit: int) -> None:
        super().__init__(scope, self._counted(receive, limit))
        self._parsed: tuple[Any] | None = None

    async def json(self) -> Any:
        """The body as JSON; raises MalformedJson."""
        if self._parsed is None:
            self._parsed = (parse_json(await self.body()),)
        return self._parsed[0]

    @staticmethod
    def _counted(receive: Receive, limit: int) -> Receive:
        total = 0

        async def counted() -> Message:
            nonlocal total
            message = await receive()
            if message["type"] == "http.request":
                total += len(message.get("body", b""))
                if total > limit:
                    raise TooLarge
            return message

        return counted


def check_length(request: Request, limit: int) -> None:
    """Refuse a body by its announced length, before any of it is read."""
    lengths = request.headers.getlist("content-length")
    if len(set(lengths)) > 1 or any(not (text.isascii() and text.isdigit()) for text in lengths):
        raise LengthMalformed
    if lengths and (len(lengths[0]) > 18 or int(lengths[0]) > limit):
        raise TooLarge


async def read_body(request: KitRequest, route: "ApiRoute") -> None:
    """Read what the route declares, so that each way in which it can be wrong has its own answer.

    Raises MalformedJson, FormMalformed (400), TooLarge (413), UnsupportedType (415).
    """
    field = route.body_field
    if field is None:
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if isinstance(field.field_info, params.Form):
        await _read_form(request, kind)
    elif await request.body():
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            raise UnsupportedType("Send the body as application/json, and say so in Content-Type.")
        await request.json()


async def _read_form(request: KitRequest, kind: str) -> None:
    if kind not in _FORMS and (kind or await request.body()):
        raise UnsupportedType("Send the body as multipart/form-data, and say so in Content-Type.")
    try:
        await request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=LARGEST_FIELD)
    except HTTPException as wrong:
        raise FormMalformed from wrong
