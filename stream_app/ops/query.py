"""SQL over the outputs, by DuckDB: `<feed>.<sink>`, or `<sink>` alone for the first feed.

Tables of PostgreSQL are `<feed>.postgres_<table>`. Tables of delta are as they were by `AT (VERSION => 12)`.
"""

from __future__ import annotations

import duckdb

from stream_app.errors import ConfigError
from stream_app.feeds.sql import name
from stream_app.flows.flow import Flow
from stream_app.ops import rows
from stream_app.ops.rows import Rows
from stream_app.ops.time_travel import with_views
from stream_app.ops.views import OpenFiles, connected
from stream_app.settings import Servers
from stream_app.sinks.protocol import sink_of


def query(servers: Servers, flows: tuple[Flow, ...], sql: str, limit: int | None = None) -> Rows | None:
    """Return the first `limit` rows of the last statement's result; None where it has no rows to give.

    Raises ConfigError, one line that lists what can be asked, where `sql` holds no statement.
    """
    with connected(flows) as connection, OpenFiles() as files:
        for flow in flows:
            if flow.sink in sql:  # what must be copied is copied when it is asked for
                sink_of(flow).copy_into(connection, flow, servers)
        sql = with_views(connection, flows, sql, files.path)
        if not duckdb.extract_statements(sql):
            names = ", ".join(as_typed(flow) for flow in flows if sink_of(flow).is_queryable)
            problem = f'--sql: give a query over {names}, such as: make query SQL="SELECT * FROM silver LIMIT 5"'
            raise ConfigError(problem)
        found = connection.sql(sql)
        return None if found is None else rows.read(connection, found, limit)


def as_typed(flow: Flow) -> str:
    """Return the name of a flow's rows, with the quotes that SQL's own words want."""
    free = "SELECT count(*) = 0 FROM duckdb_keywords() WHERE keyword_name = ? AND keyword_category != 'unreserved'"
    parts = (flow.feed.name, flow.sink)
    return ".".join(p if duckdb.execute(free, [p]).fetchall()[0][0] else name(p) for p in parts)
