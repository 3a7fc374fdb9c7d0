"""Results that modules publish by themselves, on a topic of their own: the result is in the event.

A result of more than 64 KB is given over HTTP. Graph takes it in, and tells of it as of any other result.
"""

from uuid import UUID

from pydantic import Field

from kgl_contracts.ai import Extraction, Summary
from kgl_contracts.event import EventData, with_example
from kgl_contracts.topics import MODULE_RESULTS

_DOCUMENT = "0198f3a0-0000-7000-8000-000000000001"
_REQUEST = "0198f3a0-0000-7000-8000-000000000002"


class ExtractionGiven(
    EventData, type="ai.extraction.given.v1", topic=MODULE_RESULTS, key="document_id", consumers=("graph",)
):
    """A module answers a request with the entities and relations that it found."""

    model_config = with_example(
        request_id=_REQUEST,
        document_id=_DOCUMENT,
        extraction={"entities": [{"name": "Rotterdam", "type": "place", "aliases": [], "mentions": []}]},
    )

    request_id: UUID = Field(description="of ai.extraction.requested.v1")
    document_id: UUID
    extraction: Extraction


class SummaryGiven(
    EventData, type="ai.summary.given.v1", topic=MODULE_RESULTS, key="document_id", consumers=("graph",)
):
    """A module answers a request with the text that it wrote."""

    model_config = with_example(
        request_id=_REQUEST,
        document_id=_DOCUMENT,
        summary={"title": "Harbours", "text": "Rotterdam has one.", "sources": []},
    )

    request_id: UUID = Field(description="of ai.extraction.requested.v1")
    document_id: UUID
    summary: Summary
