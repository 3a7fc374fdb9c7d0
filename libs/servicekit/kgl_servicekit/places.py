"""Where the objects lie that one service stores and others read."""

from uuid import UUID

from kgl_servicekit.ids import derived_id


def chunks_folder(workspace: UUID, document: UUID, version: int) -> str:
    """What ingest made of a document version: its chunks, its text."""
    return f"ingest/{workspace}/chunks/{document}/{version}/"


def results_folder(workspace: UUID, request: UUID) -> str:
    """All results that were ever given for a request of graph."""
    return f"graph/{workspace}/results/{request}/"


def request_id(workspace: UUID, document: UUID, version: int, module: str, capability: str) -> UUID:
    """The request of graph that asks a module for its results about a document version; there is one of each."""
    return derived_id("ai_request", workspace, document, version, module, capability)
