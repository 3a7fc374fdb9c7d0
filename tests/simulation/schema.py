"""The tables of the simulated database: those of the core, read from its own metadata, and those of the world."""

from dataclasses import replace
from typing import Any

from sqlalchemy import BigInteger, Column, DefaultClause, Identity, MetaData, Text, Uuid
from sqlalchemy import Table as Declared

from kgl_servicekit.database.core_schema import service_registry
from tests.simulation.compile_expressions import compile_expression
from tests.simulation.scope import Scope
from tests.simulation.sql_statements import parse_expression
from tests.simulation.storage import Table


class Schema:
    """Tables without rows."""

    def __init__(self, metadata: MetaData) -> None:
        self.metadata = metadata
        self.tables = {table.name: _table(table) for table in metadata.tables.values()}

    def empty(self) -> dict[str, Table]:
        return {name: replace(table, versions=[]) for name, table in self.tables.items()}


def _table(declared: Declared) -> Table:
    columns = [column.name for column in declared.columns]
    place = {name: number for number, name in enumerate(columns)}
    identity = next((place[column.name] for column in declared.columns if column.identity is not None), None)
    unique = [(str(declared.primary_key.name), tuple(place[column.name] for column in declared.primary_key.columns))]
    unique += [
        (str(index.name), tuple(place[column.name] for column in index.columns))
        for index in sorted(declared.indexes, key=lambda index: str(index.name))
        if index.unique
    ]
    return Table(
        name=declared.name,
        columns=columns,
        place=place,
        defaults={
            place[column.name]: _default(column)
            for column in declared.columns
            if isinstance(column.server_default, DefaultClause)
        },
        required=tuple(place[column.name] for column in declared.columns if not column.nullable),
        identity=identity,
        unique=[(name, index) for name, index in unique if index],
    )


def _default(column: Column[Any]) -> Any:
    text = str(column.server_default.arg)  # type: ignore[union-attr]
    return compile_expression(None, Scope(None), parse_expression(text))  # type: ignore[arg-type]


def world_metadata() -> MetaData:
    """The core, and two tables of the service that is simulated: what was asked for, and what had an effect."""
    metadata: MetaData = service_registry().metadata

    Declared(
        "made",
        metadata,
        Column("cause", Uuid, primary_key=True),
        Column("key", Text, nullable=False),
        Column("events", BigInteger, nullable=False),
    )
    Declared(
        "effect",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("subscription", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("sequence", BigInteger, nullable=False),
        Column("event_id", Uuid, nullable=False),
        Column("payload", BigInteger, nullable=False),
    )
    Declared("tally", metadata, Column("name", Text, primary_key=True), Column("value", BigInteger, nullable=False))
    return metadata
