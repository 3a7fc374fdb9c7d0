"""What the jobs and endpoints of ingest use of the world outside of its database."""

from dataclasses import dataclass

from kgl_ingest.parsing.sandbox import ParserSandbox
from kgl_servicekit.objects.port import ObjectStore


@dataclass(frozen=True, slots=True)
class Outside:
    """The stores of ingest, built once by its bootstrap."""

    objects: ObjectStore
    parsers: ParserSandbox
    parser_timeout: float
