"""Every table of every service says whether it is source or can be made anew."""

from importlib import import_module

import pytest
from sqlalchemy import MetaData

from kgl_graph.db.search_index import TABLES
from kgl_graph.db.tables import METADATA as GRAPH

SERVICES = ("auth", "ingest", "graph", "content", "publish")


@pytest.mark.parametrize("service", SERVICES)
def test_every_table_is_declared_source_or_derived(service: str) -> None:
    metadata: MetaData = import_module(f"kgl_{service}.db.tables").METADATA
    without = [name for name, table in metadata.tables.items() if table.info.get("kind") not in {"source", "derived"}]
    assert without == []


def test_what_people_decide_or_say_is_source_and_only_derived_tables_are_rebuilt() -> None:
    content: MetaData = import_module("kgl_content.db.tables").METADATA
    kinds = {name: table.info["kind"] for metadata in (GRAPH, content) for name, table in metadata.tables.items()}
    assert {kinds[name] for name in ("item", "item_version", "relation_source", "entity_source")} == {"source"}
    assert {GRAPH.tables[name].info["kind"] for name in TABLES} == {"derived"}
