"""The one OpenAPI document: how the documents of services are put together, and that it says what they say."""

import copy
import json
import re
from typing import Any

import pytest

from kgl_cli.docs import OPENAPI
from tools.openapi import Clash, documents, merge, operations, references

Document = dict[str, Any]


def reference(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def service(name: str, **schemas: Document) -> Document:
    """A service with one operation, which answers with each of its schemas."""
    content = {f"application/{each}": {"schema": reference(each)} for each in schemas}
    operation = {"operationId": f"{name}_look", "tags": ["things"], "responses": {"200": {"content": content}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": "1.2.3"},
        "paths": {f"/{name}/v1/things": {"get": operation}},
        "components": {"schemas": schemas, "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}}},
    }


def schemas_of(document: Document) -> Document:
    found: Document = document["components"]["schemas"]
    return found


def referred(document: Document, path: str) -> set[str]:
    return {each.rpartition("/")[2] for each in references(document["paths"][path])}


def test_what_is_the_same_in_two_services_is_there_once_under_its_name() -> None:
    same = {"type": "object", "title": "Problem"}
    merged = merge({"a": service("a", Problem=same, Tea=same), "b": service("b", Problem=same)})
    assert schemas_of(merged) == {"Problem": same, "Tea": same}
    assert merged["components"]["securitySchemes"] == {"apiKey": {"type": "http", "scheme": "bearer"}}
    assert list(merged["paths"]) == ["/a/v1/things", "/b/v1/things"]
    assert (merged["info"]["version"], merged["servers"]) == ("1.2.3", [{"url": "/"}])


def test_what_differs_has_the_services_name_before_it_and_is_referred_to_by_it() -> None:
    merged = merge(
        {
            "a": service("a", Item={"type": "string"}, Other={"type": "null"}),
            "b": service("b", Item={"type": "integer"}),
        }
    )
    assert schemas_of(merged) == {
        "Other": {"type": "null"},
        "a_Item": {"type": "string"},
        "b_Item": {"type": "integer"},
    }
    assert referred(merged, "/a/v1/things") == {"a_Item", "Other"}
    assert referred(merged, "/b/v1/things") == {"b_Item"}


def test_what_reads_the_same_and_refers_to_what_differs_is_not_the_same() -> None:
    page = {"type": "array", "items": reference("Item")}
    book = {"discriminator": {"propertyName": "x", "mapping": {"p": reference("Page")["$ref"]}}}
    merged = merge(
        {
            "a": service("a", Book=book, Page=page, Item={"type": "string"}),
            "b": service("b", Book=book, Page=page, Item={"type": "integer"}),
        }
    )
    assert set(schemas_of(merged)) == {f"{name}_{each}" for name in "ab" for each in ("Book", "Page", "Item")}
    assert schemas_of(merged)["b_Page"]["items"] == reference("b_Item")
    assert schemas_of(merged)["b_Book"]["discriminator"]["mapping"] == {"p": reference("b_Page")["$ref"]}


def test_a_property_with_the_name_of_a_keyword_is_left_as_it_is() -> None:
    odd = {"type": "object", "properties": {"discriminator": {"type": "string"}, "$ref": {"type": "string"}}}
    assert schemas_of(merge({"a": service("a", Odd=odd)})) == {"Odd": odd}


def test_tags_say_whose_they_are_and_stay_together() -> None:
    merged = merge({"b": service("b"), "a": service("a")})
    assert merged["tags"] == [{"name": "b: things"}, {"name": "a: things"}]
    assert [each["tags"] for each in operations(merged)] == [["b: things"], ["a: things"]]


def test_the_same_documents_make_the_same_text_and_are_left_as_they_were() -> None:
    found = {"a": service("a", Item={"type": "string"}), "b": service("b", Item={"type": "integer"})}
    before = copy.deepcopy(found)
    assert json.dumps(merge(found)) == json.dumps(merge(found))
    assert found == before


def test_what_can_be_there_only_once_may_not_differ() -> None:
    a, b = service("a"), service("b")
    with pytest.raises(Clash, match=re.escape("['/a/v1/things']")):
        merge({"a": a, "b": {**b, "paths": a["paths"]}})
    with pytest.raises(Clash, match="called \\['a_look'\\]"):
        merge({"a": a, "b": {**b, "paths": {"/other": a["paths"]["/a/v1/things"]}}})
    with pytest.raises(Clash, match="securitySchemes called apiKey"):
        merge({"a": a, "b": {**b, "components": {"securitySchemes": {"apiKey": {"type": "mutualTLS"}}}}})
    with pytest.raises(Clash, match="versions"):
        merge({"a": a, "b": {**b, "info": {"title": "b", "version": "2.0.0"}}})
    with pytest.raises(Clash, match="schemas called a_Item"):
        merge(
            {
                "a": service("a", Item={"type": "string"}),
                "b": service("b", Item={"type": "integer"}, a_Item={"type": "null"}),
            }
        )


@pytest.fixture(scope="module")
def services() -> dict[str, Document]:
    return documents()


@pytest.fixture(scope="module")
def kept() -> Document:
    found: Document = json.loads(OPENAPI.read_text())
    return found


def test_every_operation_of_every_service_is_in_the_kept_document_as_the_service_tells_it(
    services: dict[str, Document], kept: Document
) -> None:
    assert set(services) == {"auth", "ingest", "graph", "content", "publish"}
    told = {path: set(named) for document in services.values() for path, named in document["paths"].items()}
    assert {path: set(named) for path, named in kept["paths"].items()} == told
    assert sum(map(len, told.values())) > 80


def test_every_reference_of_the_kept_document_resolves_and_every_component_is_used(kept: Document) -> None:
    found = set(references(kept))
    components = {
        f"#/components/{section}/{name}"
        for section, named in kept["components"].items()
        for name in named
        if section != "securitySchemes"
    }
    assert found == components


def test_the_kept_document_has_what_openapi_demands(kept: Document) -> None:
    assert kept["openapi"].startswith("3.1.")
    assert {"title", "version"} <= kept["info"].keys()
    schemes = kept["components"]["securitySchemes"]
    assert {each["scheme"] for each in schemes.values()} == {"bearer"}
    tags = {each["name"] for each in kept["tags"]}
    ids = [each["operationId"] for each in operations(kept)]
    assert len(ids) == len(set(ids))
    for path, named in kept["paths"].items():
        for operation in named.values():
            assert set(operation["tags"]) <= tags
            assert {name for each in operation["security"] for name in each} <= schemes.keys(), path
            assert operation["responses"].keys() and all(
                each["description"] for each in operation["responses"].values()
            )
            inside = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
            assert inside == set(re.findall(r"\{([^}]*)\}", path)), path


def test_statuses_have_the_same_names_whatever_python_made_the_document(kept: Document) -> None:
    for operation in operations(kept):
        for status, phrase in (("413", "Content Too Large"), ("422", "Unprocessable Content")):
            assert operation["responses"][status]["description"].splitlines()[0] == phrase
