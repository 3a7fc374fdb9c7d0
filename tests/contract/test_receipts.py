"""Whatever is done later has a receipt: every route that answers 202, and every kind of operation, is known."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kgl_cli.docs import OPENAPI
from kgl_contracts.operations import KINDS
from kgl_contracts.rights import SERVICES

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = json.loads(OPENAPI.read_text())
LATER = [
    f"{method.upper()} {path}"
    for path, named in DOCUMENT["paths"].items()
    for method, operation in named.items()
    if "202" in operation["responses"]
]
_STARTED = re.compile(r"start_operation\(\s*f?\"([a-z_.{}]+)\"")


def schema_of(route: str) -> dict[str, Any]:
    """The schema of a route's answer 202."""
    method, _, path = route.partition(" ")
    content = DOCUMENT["paths"][path][method.lower()]["responses"]["202"]["content"]["application/json"]
    return resolved(content["schema"])


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][name] if name else schema
    return found


def is_receipt(schema: dict[str, Any]) -> bool:
    return {"id", "kind", "subject", "stages", "state"} <= {*schema.get("properties", ())}


@pytest.mark.parametrize("route", LATER)
def test_every_answer_202_is_a_receipt_or_names_one(route: str) -> None:
    schema = schema_of(route)
    properties = schema.get("properties", {})
    inside = is_receipt(resolved(properties["receipt"])) if "receipt" in properties else False
    named = "operation_id" in properties and "operation_id" in schema["required"]
    assert is_receipt(schema) or inside or named, sorted(properties)


def test_what_has_an_effect_in_another_service_answers_202() -> None:
    assert {
        "POST /ingest/v1/documents",
        "DELETE /ingest/v1/documents/{document_id}",
        "POST /content/v1/items/{item_id}:publish",
        "POST /publish/v1/deliveries/{delivery_id}:redeliver",
        "POST /modules/v1/results",
        "POST /dead-letters/v1:redrive",
    } <= {*LATER}


def started_kinds() -> set[str]:
    """The kinds of all operations that services start, as their sources name them."""
    sources = [*(ROOT / "services").glob("*/kgl_*/**/*.py"), *(ROOT / "libs/servicekit/kgl_servicekit").glob("**/*.py")]
    return {
        kind for source in sources if "testing" not in source.parts for kind in _STARTED.findall(source.read_text())
    }


def test_every_kind_that_a_service_starts_can_be_asked_for_and_is_described() -> None:
    started = started_kinds()
    rebuilding = [
        each for each in SERVICES if "rebuilds=[" in (ROOT / f"services/{each}/kgl_{each}/bootstrap.py").read_text()
    ]
    assert [each for each in rebuilding if f"{each}.rebuild" not in KINDS] == []
    patterns = [re.compile(re.sub(r"\\{[a-z_.\\]+\\}", "[a-z_]+", re.escape(kind))) for kind in started]
    assert all(any(pattern.fullmatch(kind) for pattern in patterns) for kind in KINDS)
    assert all(any(pattern.fullmatch(kind) for kind in KINDS) for pattern in patterns), started
    described = (ROOT / "docs/architecture/receipts.md").read_text()
    table = next(part for part in described.split("\n\n") if part.startswith("| kind |"))
    missing = [kind for kind in KINDS if kind not in table and f"`.{kind.rpartition('.')[2]}`" not in table]
    assert missing == []
