"""Entity tags (RFC 9110, sections 8.8.3 and 13): what they are made of, and what a request says about them."""

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import Depends
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from kgl_servicekit.errors import BadRequest, PreconditionFailed, PreconditionRequired

_TAG = re.compile(r'\s*(W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')
_MOST_TAGS = 50


class TagMalformed(BadRequest, code="etag_malformed"):
    """If-Match and If-None-Match take `*`, or quoted tags such as `"abc"` with commas between them."""


class NotModified(Exception):
    """The client has this version already; answered with 304 by the kit."""

    def __init__(self, etag: str) -> None:
        super().__init__(etag)
        self.etag = etag


def etag_of(*parts: Any) -> str:
    """A strong tag that changes when any part does: models, ids, versions, or bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(_bytes(part) + b"\x00")
    return f'"{digest.hexdigest()}"'


def _bytes(part: Any) -> bytes:
    if isinstance(part, bytes):
        return part
    if isinstance(part, BaseModel):
        return part.model_dump_json().encode()
    return orjson.dumps(part, option=orjson.OPT_SORT_KEYS, default=str)


@dataclass(frozen=True, slots=True)
class Condition:
    """The tags of an If-Match; without any, every version matches.

    Give it to the use case, and check it there: only a comparison in the transaction of the change is safe.
    """

    tags: frozenset[str] | None = None

    def check(self, etag: str) -> None:
        """Raise PreconditionFailed unless the present tag is one that the client knows."""
        if self.tags is not None and etag not in self.tags and "*" not in self.tags:
            raise PreconditionFailed


def tags_in(header: str, *, weak: bool) -> frozenset[str]:
    """The tags that a header lists. `weak` compares weak ones too (If-None-Match), else they match nothing."""
    if header.strip() == "*":
        return frozenset({"*"})
    if not header.strip():
        raise TagMalformed
    found: set[str] = set()
    at = 0
    while at < len(header):
        tag = _TAG.match(header, at)
        if tag is None or len(found) == _MOST_TAGS:
            raise TagMalformed
        if weak or tag[1] is None:
            found.add(tag[2])
        at = tag.end()
    return frozenset(found)


def condition(request: Request, *, required: bool = False) -> Condition:
    """What the request demands by If-Match; raises PreconditionRequired if it must and does not."""
    header = request.headers.get("if-match")
    if header is None:
        if required:
            raise PreconditionRequired
        return Condition()
    return Condition(tags_in(header, weak=False))


def require_match(request: Request, etag: str, *, required: bool = False) -> None:
    """Raise PreconditionFailed (412), or PreconditionRequired (428), unless the request is about this version."""
    condition(request, required=required).check(etag)


def is_known(request: Request, etag: str) -> bool:
    """Whether the client has this version (If-None-Match, weak comparison)."""
    header = request.headers.get("if-none-match")
    if header is None:
        return False
    tags = tags_in(header, weak=True)
    return "*" in tags or etag.removeprefix("W/") in tags


def conditional(request: Request, response: Response, etag: str) -> None:
    """Send this tag with the answer; a client that has it gets 304 and no body.

    Answers to GET without a tag of their own get one of their bytes by themselves.
    """
    if is_known(request, etag):
        raise NotModified(etag)
    response.headers["ETag"] = etag


async def _optional(request: Request) -> Condition:
    return condition(request)


async def _required(request: Request) -> Condition:
    return condition(request, required=True)


IfMatch = Annotated[Condition, Depends(_optional)]
RequiredIfMatch = Annotated[Condition, Depends(_required)]
