"""Write the one OpenAPI document of all five services, or check that it is up to date.

The applications are built as they are served, with the built-in issuer; nothing is connected.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from kgl_cli.docs import OPENAPI
from kgl_cli.system import BUILDERS
from kgl_servicekit.bus.memory import MemoryBus

Document = dict[str, Any]
_NOWHERE = "postgresql://nowhere"
_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
_DESCRIPTION = """\
Every API of the system, under one address. Send an API key or an access token as `Authorization: Bearer ...`.

The paths below `/auth/v1/oidc` and `/auth/v1/instance/signing-keys` are there with the built-in issuer alone.
"""


class Clash(ValueError):
    """Two services say different things of what can be there only once."""


def documents() -> dict[str, Document]:
    """What each service says of its API."""
    with tempfile.TemporaryDirectory() as folder:
        nowhere = {"env": "test", "database_url": _NOWHERE, "bus_url": _NOWHERE, "object_dir": folder}
        return {
            name: build(settings(**nowhere), MemoryBus()).api().openapi()
            for name, (build, settings, _) in BUILDERS.items()
        }


def merge(found: Mapping[str, Document]) -> Document:
    """One document of those of the services.

    Components that differ between services have the service's name before theirs. Raises Clash where paths,
    operation ids, security schemes or versions do not go together.
    """
    parts = {name: _renamed(name, document, _clashing(found)) for name, document in found.items()}
    components: Document = {}
    for document in parts.values():
        for section, named in document.get("components", {}).items():
            _add(components.setdefault(section, {}), named, section)
    merged: Document = {
        "openapi": _only([document["openapi"] for document in parts.values()], "versions of OpenAPI"),
        "info": {
            "title": "Knowledge Graph Lab",
            "version": _only([document["info"]["version"] for document in parts.values()], "versions"),
            "description": _DESCRIPTION,
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in _tags(parts)],
        "paths": {},
        "components": {section: dict(sorted(named.items())) for section, named in sorted(components.items())},
    }
    for document in parts.values():
        if twice := merged["paths"].keys() & document["paths"].keys():
            raise Clash(f"more than one service has {sorted(twice)}")
        merged["paths"] |= document["paths"]
    ids = [operation["operationId"] for operation in operations(merged)]
    if len(ids) != len(set(ids)):
        raise Clash(f"more than one operation is called {sorted(name for name in set(ids) if ids.count(name) > 1)}")
    return merged


def operations(document: Document) -> Iterator[Document]:
    """The operations of all paths."""
    for path in document["paths"].values():
        yield from (operation for method, operation in path.items() if method in _METHODS)


def _clashing(found: Mapping[str, Document]) -> set[str]:
    """The references to what several services have and which differs, by itself or by what it refers to."""
    kept: dict[str, list[Document]] = {}
    for document in found.values():
        for section, named in document.get("components", {}).items():
            for name, component in named.items() if section != "securitySchemes" else ():
                kept.setdefault(f"#/components/{section}/{name}", []).append(component)
    shared = {reference: same for reference, same in kept.items() if len(same) > 1}
    clashing = {reference for reference, same in shared.items() if any(other != same[0] for other in same)}
    while more := {
        reference for reference in shared.keys() - clashing if clashing & set(references(shared[reference]))
    }:
        clashing |= more
    return clashing


def references(value: Any) -> Iterator[str]:
    """Every reference within, those of discriminators too."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref" and isinstance(inner, str):
                yield inner
            elif key == "discriminator" and "mapping" in inner:
                yield from inner["mapping"].values()
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def _renamed(service: str, document: Document, clashing: set[str]) -> Document:
    """The document of a service, with its name before that of each clashing component and of each tag."""
    own = {reference: _before(service, reference) for reference in clashing}
    renamed: Document = _referring(document, own)
    for section, named in renamed.get("components", {}).items():
        root = f"#/components/{section}/"
        renamed["components"][section] = {
            own.get(root + name, root + name).removeprefix(root): component for name, component in named.items()
        }
    for operation in operations(renamed):
        operation["tags"] = [f"{service}: {tag}" for tag in operation.get("tags", [service])]
    return renamed


def _before(service: str, reference: str) -> str:
    place, _, name = reference.rpartition("/")
    return f"{place}/{service}_{name}"


def _referring(value: Any, own: Mapping[str, str]) -> Any:
    """A copy in which references are those that `own` has for them."""
    if isinstance(value, dict):
        copied = {key: _referring(inner, own) for key, inner in value.items()}
        if isinstance(reference := copied.get("$ref"), str):
            copied["$ref"] = own.get(reference, reference)
        if "mapping" in (discriminator := copied.get("discriminator", ())):
            mapping = discriminator["mapping"].items()
            copied["discriminator"] = {**discriminator, "mapping": {key: own.get(to, to) for key, to in mapping}}
        return copied
    if isinstance(value, list):
        return [_referring(inner, own) for inner in value]
    return value


def _add(whole: Document, named: Document, section: str) -> None:
    for name, component in named.items():
        if whole.setdefault(name, component) != component:
            raise Clash(f"services have different {section} called {name}")


def _tags(parts: Mapping[str, Document]) -> list[str]:
    """All tags, those of a service together and in the order of its operations."""
    return list(
        dict.fromkeys(tag for document in parts.values() for each in operations(document) for tag in each["tags"])
    )


def _only(values: list[str], what: str) -> str:
    if len(set(values)) != 1:
        raise Clash(f"services have different {what}: {values}")
    return values[0]


def main() -> int:
    """With --check, say whether the file differs and return 1 if so; else write it."""
    text = json.dumps(merge(documents()), indent=1, ensure_ascii=False) + "\n"
    if "--check" in sys.argv:
        stale = not OPENAPI.exists() or OPENAPI.read_text() != text
        print(f"openapi: {OPENAPI.name} is stale; run `make contracts`" if stale else "openapi: up to date")
        return 1 if stale else 0
    OPENAPI.write_text(text)
    print(f"openapi: {OPENAPI.name} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
