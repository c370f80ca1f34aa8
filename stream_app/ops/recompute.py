"""Outputs computed anew from silver in DuckDB, by other means than the service's: what the audit compares with."""

from __future__ import annotations

from stream_app.declared import Session
from stream_app.ops.sql import name, names, text


def sessions(session: Session, time: str, rows: str, watermark_ms: float) -> str:
    """The SQL for the sessions of a view's rows that are final at that watermark, with layers/sessions.py's columns."""
    keys, gap, time = names(session.keys), session.gap.total_seconds() * 1_000_000, name(time)
    ends = " AND ".join(f"{name(column)} = {text(value)}" for column, value in session.ends.items())
    return (
        # records of one time are one step on the line of their keys
        f"WITH steps AS (SELECT {keys}, {time} AS _time, count(*) AS _events, bool_or({ends}) AS _ended "
        f"FROM {rows} GROUP BY ALL), "
        "begun AS (SELECT *, coalesce(lag(_ended) OVER line "
        f"OR epoch_us(_time) - epoch_us(lag(_time) OVER line) > {gap}, true) AS _begins "
        f"FROM steps WINDOW line AS (PARTITION BY {keys} ORDER BY _time)), "
        f"numbered AS (SELECT *, count(*) FILTER (_begins) OVER (PARTITION BY {keys} ORDER BY _time) AS _number "
        "FROM begun) "
        f"SELECT {keys}, min(_time) AS session_start, max(_time) AS session_end, "
        "(epoch_us(max(_time)) - epoch_us(min(_time))) / 1e6 AS duration_seconds, sum(_events)::BIGINT AS events, "
        "CASE WHEN bool_or(_ended) THEN 'ended' ELSE 'timed_out' END AS outcome "
        f"FROM numbered GROUP BY {keys}, _number "
        f"HAVING epoch_us(max(_time)) + CASE WHEN bool_or(_ended) THEN 0 ELSE {gap} END <= {watermark_ms * 1000}"
    )
