"""Reading an upload: a form with a file, or JSON with text."""

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from kgl_ingest.api.problems import ContentEmpty, ContentRefused, UploadMalformed
from kgl_ingest.domain.charsets import declared_charset
from kgl_ingest.domain.documents import OnDuplicate
from kgl_ingest.domain.media_types import EmptyDocument, MediaType, UnsupportedMediaType, recognise
from kgl_servicekit.errors import TooLarge
from kgl_servicekit.http.body import FormMalformed

_NAME = 255
M = TypeVar("M", bound=BaseModel)


class UploadFields(BaseModel):
    """What may be said about an upload, in a form or in JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(default=None, max_length=_NAME, description="file name; its suffix may tell the type")
    title: str | None = Field(
        default=None, min_length=1, max_length=200, description="else the document's own title is taken"
    )
    on_duplicate: OnDuplicate = Field(
        default=OnDuplicate.ERROR, description="what to do when the workspace has this content already"
    )


class TextUpload(UploadFields):
    """A document as JSON."""

    text: str
    media_type: str | None = Field(default=None, max_length=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A document as it came, with its type recognised."""

    content: bytes
    media_type: MediaType
    charset: str | None
    fields: UploadFields


async def _upload(request: Request) -> Upload:
    # the whole body first: an Idempotency-Key compares it, and the form is then read from memory
    body = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _from_form(request, len(body))
    if kind == "application/json":
        return _from_json(await request.json())
    raise ContentRefused("Send multipart/form-data with one `file`, or application/json with `text`.")


async def _from_form(request: Request, size: int) -> Upload:
    parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=10)
    parser.spool_max_size = size + 1  # it is in memory already, and need not go by way of a disk
    try:
        form = await parser.parse()
    except MultiPartException as wrong:
        raise FormMalformed from wrong
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise UploadMalformed(errors=[{"pointer": "#/file", "detail": "one file is needed"}])
    given = {name: value for name, value in form.items() if name != "file" and isinstance(value, str)}
    fields = _validated(UploadFields, {"name": file.filename or None, **given})
    return _recognised(await file.read(), file.content_type, fields)


def _from_json(body: Any) -> Upload:
    upload = _validated(TextUpload, body)
    fields = UploadFields(name=upload.name, title=upload.title, on_duplicate=upload.on_duplicate)
    declared = (
        upload.media_type if upload.media_type is None else f"{upload.media_type.partition(';')[0]}; charset=utf-8"
    )
    return _recognised(upload.text.encode(), declared, fields)


def _validated(model: type[M], values: Any) -> M:
    try:
        return model.model_validate(values)
    except ValidationError as wrong:
        errors = [
            {"pointer": "#/" + "/".join(map(str, error["loc"])), "detail": error["msg"]} for error in wrong.errors()
        ]
        raise UploadMalformed(errors=errors) from wrong


def _recognised(content: bytes, declared: str | None, fields: UploadFields) -> Upload:
    try:
        media_type = recognise(content, declared, fields.name)
    except EmptyDocument as empty:
        raise ContentEmpty from empty
    except UnsupportedMediaType as refused:
        raise ContentRefused(refused.reason) from refused
    return Upload(content=content, media_type=media_type, charset=declared_charset(declared), fields=fields)


Uploaded = Annotated[Upload, Depends(_upload)]
"""The upload of a request; raises TooLarge (413), ContentRefused (415), ContentEmpty, UploadMalformed (422)."""

PROBLEMS = [TooLarge, ContentRefused, ContentEmpty, UploadMalformed]
_WORDS = {
    "name": {"type": "string", "maxLength": _NAME},
    "title": {"type": "string", "minLength": 1, "maxLength": 200},
    "on_duplicate": {"type": "string", "enum": [policy.value for policy in OnDuplicate], "default": "error"},
}
_FILE = {"type": "string", "format": "binary"}
_FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "string", "format": "binary"}} | _WORDS,
}
_JSON = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": {"type": "string"}, "media_type": {"type": "string"}} | _WORDS,
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": _FORM}, "application/json": {"schema": _JSON}},
    }
}
