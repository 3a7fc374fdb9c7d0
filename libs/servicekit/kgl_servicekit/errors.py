"""The tree of everything that can go wrong on purpose.

Problem               an answer for a client: stable code, status, what to do (RFC 9457)
├─ BadRequest 400     ├─ Gone 410                  ├─ Invalid 422
├─ Unauthorized 401   ├─ PreconditionFailed 412    ├─ PreconditionRequired 428
├─ Forbidden 403      ├─ TooLarge 413              ├─ TooMany 429
├─ NotFound 404       ├─ UnsupportedType 415       └─ Unavailable 503: a store is out; try again
└─ Conflict 409
JobFailed             a job that no retry can help; ends it with a code

A concrete problem is one class: its code, its sentence as docstring, and its extra members as annotations.
"""

import inspect
from typing import Any, ClassVar


class Problem(Exception):
    """Something is wrong with the request."""

    code: ClassVar[str] = "problem"
    status: ClassVar[int] = 400
    sentence: ClassVar[str] = ""
    members: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, *, code: str | None = None, status: int | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if code is not None:
            cls.code = code
        if status is not None:
            cls.status = status
        cls.sentence = " ".join(inspect.cleandoc(cls.__doc__ or "").split())
        declared = [name for name in inspect.get_annotations(cls) if name not in Problem.__annotations__]
        cls.members = (*cls.members, *declared)

    def __init__(self, detail: str | None = None, **members: Any) -> None:
        unknown = members.keys() - set(self.members)
        if unknown:
            raise TypeError(f"{type(self).__name__} has no member {', '.join(sorted(unknown))}")
        self.detail = detail or self.sentence
        for name in self.members:
            setattr(self, name, members.get(name))
        super().__init__(self.detail)

    def extension(self) -> dict[str, Any]:
        """The extension members of the problem, without those that were not given."""
        return {name: value for name in self.members if (value := getattr(self, name)) is not None}


class BadRequest(Problem, code="bad_request", status=400):
    """The request cannot be read; correct it and send it again."""


class Unauthorized(Problem, code="unauthorized", status=401):
    """Send a valid access token or API key as `Authorization: Bearer ...`."""


class Forbidden(Problem, code="forbidden", status=403):
    """Your role does not allow this; ask an owner of the workspace for the permission."""


class NotFound(Problem, code="not_found", status=404):
    """There is nothing here that you may see; check the id and the workspace."""


class Conflict(Problem, code="conflict", status=409):
    """The request contradicts the present state; read it again and decide anew."""


class Gone(Problem, code="gone", status=410):
    """This existed and was deleted."""


class PreconditionFailed(Problem, code="precondition_failed", status=412):
    """The resource has changed since you read it; read it again and send its new ETag in If-Match."""


class TooLarge(Problem, code="too_large", status=413):
    """The body is larger than the limit; GET /ingest/v1/limits tells the limits."""


class UnsupportedType(Problem, code="unsupported_type", status=415):
    """This media type is not accepted here."""


class Invalid(Problem, code="invalid", status=422):
    """The request is well-formed but not valid; `errors` names each place."""

    errors: list[dict[str, str]]


class PreconditionRequired(Problem, code="precondition_required", status=428):
    """Send the ETag of the version that you change in If-Match."""


class TooMany(Problem, code="too_many_requests", status=429):
    """Too many requests; wait for the seconds in Retry-After."""

    retry_after: float


class Unavailable(Problem, code="unavailable", status=503):
    """Something that this needs is out of reach at the moment; try again after Retry-After."""

    retry_after: float


class JobFailed(Exception):
    """The job cannot succeed; `code` is stable and shown in the receipt.

    However often it is tried, or with `retry` only after as many tries as its kind has.
    """

    def __init__(self, code: str, sentence: str, *, retry: bool = False) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.retry = retry
        self.sentence = sentence
