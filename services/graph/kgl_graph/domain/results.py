"""Where the results of modules lie as objects."""

import re
from uuid import UUID

from kgl_servicekit.places import results_folder

FOLDER = "graph/"
_KEY = re.compile(r"graph/(?P<workspace>[0-9a-f-]{36})/results/(?P<request>[0-9a-f-]{36})/")


def result_key(workspace: UUID, request: UUID, sha256: str) -> str:
    """One result: objects never change, so another result is another object."""
    return f"{results_folder(workspace, request)}{sha256}.json"


def workspace_of_key(key: str) -> UUID | None:
    """Whose result it is; None when it is none."""
    found = _KEY.match(key)
    return UUID(found["workspace"]) if found else None


def request_of_key(key: str) -> UUID | None:
    """The request that it answers; None when it is no result."""
    found = _KEY.match(key)
    return UUID(found["request"]) if found else None
