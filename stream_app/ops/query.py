"""make query SQL="..." [FEED=] - DuckDB over the outputs: `<feed>.<sink>`, or `<sink>` alone for the first feed.

Tables of PostgreSQL are `<feed>.postgres_<table>`; make psql asks PostgreSQL itself.
"""

from __future__ import annotations

import duckdb

from stream_app.errors import ConfigError
from stream_app.flows.flow import Flow, Layer
from stream_app.ops.command import option, run
from stream_app.ops.sql import name
from stream_app.ops.tables import copy_tables
from stream_app.ops.views import connected
from stream_app.settings import Settings

_MOST_ROWS = 1000


def query(settings: Settings, flows: tuple[Flow, ...]) -> int:
    """Print the result of the SQL."""
    sql = option("SQL")
    if not sql:
        names = ", ".join(_as_typed(flow) for flow in flows if flow.layer is not Layer.TOPIC)
        problem = f'SQL: give a query over {names}, such as: make query SQL="SELECT * FROM silver LIMIT 5"'
        raise ConfigError(problem)
    with connected(flows) as connection:
        copy_tables(connection, [flow for flow in flows if flow.layer is Layer.TABLE and flow.sink in sql], settings)
        result = connection.sql(sql)
        if result is not None:
            result.show(max_rows=_MOST_ROWS, max_width=200)
    return 0


def _as_typed(flow: Flow) -> str:
    """Return the name of a flow's rows, with the quotes that SQL's own words want."""
    free = "SELECT count(*) = 0 FROM duckdb_keywords() WHERE keyword_name = ? AND keyword_category != 'unreserved'"
    parts = (flow.feed.name, flow.sink)
    return ".".join(p if duckdb.execute(free, [p]).fetchall()[0][0] else name(p) for p in parts)


if __name__ == "__main__":
    run("query", query)
