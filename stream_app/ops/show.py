"""make show - the newest rows of each output, and how many there are."""

from __future__ import annotations

from stream_app.flow import Flow, Layer
from stream_app.ops.command import run
from stream_app.ops.views import connect
from stream_app.settings import Settings

_NEWEST_ROWS = 5


def show(_settings: Settings, flows: tuple[Flow, ...]) -> int:
    """Print them, layer by layer."""
    connection = connect(flows)
    for flow in flows:
        table = f"{flow.feed.name}.{flow.sink}"
        (count,) = connection.sql(f"SELECT count(*) FROM {table}").fetchall()[0]
        print(f"\n{flow.name}: {count:,} rows in {flow.output}")
        rows = connection.sql(
            f"SELECT {_columns(flow)} FROM {table} ORDER BY {_newest_first(flow)} LIMIT {_NEWEST_ROWS}"
        )
        rows.show(max_width=200)
    return 0


def _columns(flow: Flow) -> str:
    if flow.layer is Layer.BRONZE:
        return 'key, left(coalesce(try(decode(value)), value::VARCHAR), 60) AS value, kafka_ts, partition, "offset"'
    return "* EXCLUDE (value)" if flow.layer is Layer.QUARANTINE else "*"


def _newest_first(flow: Flow) -> str:
    match flow.layer:
        case Layer.GOLD:
            return ", ".join(("window_start DESC", *flow.window.keys))
        case Layer.SESSIONS:
            return ", ".join(("session_start DESC", *flow.session.keys))
        case Layer.RAW_CSV:
            return f"{flow.feed.event_time.field} DESC"
        case _:
            return 'kafka_ts DESC, partition, "offset" DESC'


if __name__ == "__main__":
    run("show", show)
