"""Every table of every service says whether it is source or can be made anew."""

from importlib import import_module

import pytest
from sqlalchemy import MetaData

from kgl_cli.system import BUILDERS
from kgl_graph.db.search_index import TABLES
from kgl_graph.db.tables import METADATA as GRAPH
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.database.core_schema import CORE_NOT_REBUILT

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


@pytest.mark.parametrize("service", SERVICES)
def test_every_derived_table_is_named_by_a_rebuild_or_by_an_exception_with_its_reason(service: str) -> None:
    tables = import_module(f"kgl_{service}.db.tables")
    build, settings, _ = BUILDERS[service]
    made = build(
        settings(
            env="test", database_url="postgresql:///none", bus_url="postgresql:///none", object_dir="/nonexistent"
        ),
        MemoryBus(),
    )
    groups = [*(each.tables for each in made.rebuilds), *(each.tables for each in made.rebuilds_in_place)]
    rebuilt = [table for group in groups for table in group]
    exceptions: dict[str, str] = {**CORE_NOT_REBUILT, **getattr(tables, "NOT_REBUILT", {})}
    derived = {name for name, table in tables.METADATA.tables.items() if table.info["kind"] == "derived"}
    assert sorted([*rebuilt, *exceptions]) == sorted(derived)
    assert all(len(reason.split()) > 1 for reason in exceptions.values())
