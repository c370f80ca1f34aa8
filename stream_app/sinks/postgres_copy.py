"""A PostgreSQL table as a DuckDB table `<feed>.<sink>`, copied as it is when it is asked for.

DuckDB could read it itself by an extension, but that is one that it would have to download.
"""

from __future__ import annotations

import duckdb
import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.types.string import TextLoader
from pydantic import SecretStr

from stream_app.errors import ConfigError, StreamAppError
from stream_app.feeds.sql import name, view
from stream_app.flows.flow import Flow
from stream_app.sinks.postgres_connection import connected
from stream_app.sinks.postgres_identity import KEY
from stream_app.storage.offsets import LayerOffset, in_layer, parse

_ROWS_AT_ONCE = 50_000
_COPIED = "_copied"
# PostgreSQL's names of types are DuckDB's too, but for these.
_AS_TEXT = {"jsonb": "VARCHAR"}


def copy_table(connection: duckdb.DuckDBPyConnection, flow: Flow, table: str, url: SecretStr) -> LayerOffset:
    """Copy a flow's table; return how far of the layer before it has come.

    Raises StreamAppError, one line that says why it cannot be read.
    """
    if not url:
        problem = f"DATABASE_URL: is not set, and no PostgreSQL runs here; {flow.name} is a table of it"
        raise ConfigError(problem)
    try:
        return _copy(connection, flow, table, url)
    except psycopg.errors.UndefinedTable:
        problem = f"{flow.name}: there is no table {table} yet; the service makes it when it starts"
        raise StreamAppError(problem) from None


def _copy(connection: duckdb.DuckDBPyConnection, flow: Flow, table: str, url: SecretStr) -> LayerOffset:
    # a cursor with a name stays on the server, so that not all rows are in memory twice
    copied = view(flow.feed.name, flow.sink)
    with connected(flow, url) as database, database.cursor(flow.sink) as cursor:
        database.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ  # the table, and how far it has come
        cursor.adapters.register_loader("jsonb", TextLoader)  # by Python's own parser decimals would be floats
        cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)))
        every = cursor.description or []
        described = [column for column in every if column.name != KEY]
        kinds = {one.name: _AS_TEXT.get(one.type_display, one.type_display) for one in described}
        # the table lacks what its dataset has grown by until the next start of its query
        lacking = {one: "VARCHAR" if kind.is_nested else kind.duckdb for one, kind in flow.kind.types.items()}
        typed = ", ".join(f"{name(one)} {kind}" for one, kind in (kinds | lacking | kinds).items())
        connection.execute(f"CREATE TABLE {copied} ({typed})")
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            found = zip(every, zip(*rows, strict=True), strict=True)
            columns = [pa.array(values) for column, values in found if column.name != KEY]
            connection.register(_COPIED, pa.table(columns, names=[column.name for column in described]))
            connection.execute(f"INSERT INTO {copied} BY NAME FROM {_COPIED}")
            connection.unregister(_COPIED)
        marker = "SELECT offsets FROM stream_app_batches WHERE sink = %s"
        written = database.execute(marker, [flow.name]).fetchone()
        return in_layer(parse(written[0])) if written else LayerOffset()
