"""make query SQL="..." - DuckDB over the outputs: `<feed>.<layer>`, or `<layer>` alone for the first feed."""

from __future__ import annotations

from stream_app.errors import ConfigError
from stream_app.flow import Flow
from stream_app.ops.command import option, run
from stream_app.ops.views import connect
from stream_app.settings import Settings

_MOST_ROWS = 1000


def query(_settings: Settings, flows: tuple[Flow, ...]) -> int:
    """Print the result of the SQL."""
    sql = option("SQL")
    if not sql:
        names = ", ".join(flow.name for flow in flows)
        problem = f'SQL: give a query over {names}, such as: make query SQL="SELECT * FROM silver LIMIT 5"'
        raise ConfigError(problem)
    result = connect(flows).sql(sql)
    if result is not None:
        result.show(max_rows=_MOST_ROWS, max_width=200)
    return 0


if __name__ == "__main__":
    run("query", query)
