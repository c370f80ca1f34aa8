"""SQL over the outputs, by DuckDB: `<feed>.<sink>`, or `<sink>` alone for the first feed.

Tables of PostgreSQL are `<feed>.postgres_<table>`.
"""

from __future__ import annotations

import duckdb

from stream_app.errors import ConfigError
from stream_app.flows.flow import Flow, Layer
from stream_app.ops import rows
from stream_app.ops.rows import Rows
from stream_app.ops.sql import name
from stream_app.ops.tables import copy_tables
from stream_app.ops.views import connected
from stream_app.settings import Settings


def query(settings: Settings, flows: tuple[Flow, ...], sql: str, limit: int | None = None) -> Rows | None:
    """Return the first `limit` rows of the last statement's result; None where it has no rows to give.

    Raises ConfigError, one line that lists what can be asked, where `sql` holds no statement.
    """
    if not duckdb.extract_statements(sql):
        names = ", ".join(_as_typed(flow) for flow in flows if flow.layer is not Layer.TOPIC)
        problem = f'--sql: give a query over {names}, such as: make query SQL="SELECT * FROM silver LIMIT 5"'
        raise ConfigError(problem)
    with connected(flows) as connection:
        copy_tables(connection, [flow for flow in flows if flow.layer is Layer.TABLE and flow.sink in sql], settings)
        found = connection.sql(sql)
        return None if found is None else rows.read(connection, found, limit)


def _as_typed(flow: Flow) -> str:
    """Return the name of a flow's rows, with the quotes that SQL's own words want."""
    free = "SELECT count(*) = 0 FROM duckdb_keywords() WHERE keyword_name = ? AND keyword_category != 'unreserved'"
    parts = (flow.feed.name, flow.sink)
    return ".".join(p if duckdb.execute(free, [p]).fetchall()[0][0] else name(p) for p in parts)
