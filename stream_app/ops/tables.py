"""The PostgreSQL tables as DuckDB tables `<feed>.postgres_<table>`, copied as they are when they are asked for.

DuckDB could read them itself by an extension, but that is one that it would have to download.
"""

from __future__ import annotations

from collections.abc import Iterable

import duckdb
import psycopg
import pyarrow as pa
from psycopg import sql

from stream_app.errors import ConfigError, StreamAppError
from stream_app.flows.flow import Flow
from stream_app.ops.sql import name, view
from stream_app.settings import Settings
from stream_app.sinks.postgres_connection import connected
from stream_app.sinks.postgres_identity import KEY

_ROWS_AT_ONCE = 50_000
_COPIED = "_copied"


def copy_tables(connection: duckdb.DuckDBPyConnection, flows: Iterable[Flow], settings: Settings) -> None:
    """Copy the tables of those flows. Raises StreamAppError, one line that says why one cannot be read."""
    for flow in flows:
        if not settings.database_url.get_secret_value():
            problem = f"DATABASE_URL: is not set, and no PostgreSQL runs here; {flow.name} is a table of it"
            raise ConfigError(problem)
        try:
            _copy(connection, flow, settings)
        except psycopg.errors.UndefinedTable:
            problem = f"{flow.name}: there is no table {flow.table} yet; the service makes it when it starts"
            raise StreamAppError(problem) from None


def _copy(connection: duckdb.DuckDBPyConnection, flow: Flow, settings: Settings) -> None:
    # a cursor with a name stays on the server, so that not all rows are in memory twice
    table = view(flow.feed.name, flow.sink)
    with connected(flow, settings) as database, database.cursor(flow.sink) as cursor:
        cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(flow.table)))
        every = cursor.description or []
        described = [column for column in every if column.name != KEY]
        # PostgreSQL's names of types are DuckDB's too
        typed = ", ".join(f"{name(column.name)} {column.type_display}" for column in described)
        connection.execute(f"CREATE TABLE {table} ({typed})")
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            found = zip(every, zip(*rows, strict=True), strict=True)
            columns = [pa.array(values) for column, values in found if column.name != KEY]
            connection.register(_COPIED, pa.table(columns, names=[column.name for column in described]))
            connection.execute(f"INSERT INTO {table} FROM {_COPIED}")
            connection.unregister(_COPIED)
