"""Outputs computed anew from silver in DuckDB, by other means than the service's: what the audit compares with."""

from __future__ import annotations

from stream_app.contract.times import microseconds
from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Measure, Session, Window
from stream_app.flows.flow import Flow
from stream_app.ops.sql import name, names, text


def sessions(session: Session, time: str, rows: str, watermark_ms: float) -> str:
    """The SQL for the sessions of a view's rows that are final at that watermark, with layers/sessions.py's columns."""
    keys, gap, time = names(session.keys), session.gap.total_seconds() * 1_000_000, name(time)
    ends = " AND ".join(f"{name(column)} = {text(value)}" for column, value in session.ends.items())
    return (
        # records of one time are one step on the line of their keys
        f"WITH _steps AS (SELECT {keys}, {time} AS _time, count(*) AS _events, bool_or({ends}) AS _ended "
        f"FROM {rows} GROUP BY ALL), "
        "_begun AS (SELECT *, coalesce(lag(_ended) OVER _line "
        f"OR epoch_us(_time) - epoch_us(lag(_time) OVER _line) > {gap}, true) AS _begins "
        f"FROM _steps WINDOW _line AS (PARTITION BY {keys} ORDER BY _time)), "
        f"_numbered AS (SELECT *, count(*) FILTER (_begins) OVER (PARTITION BY {keys} ORDER BY _time) AS _number "
        "FROM _begun) "
        f"SELECT {keys}, min(_time) AS session_start, max(_time) AS session_end, "
        "(epoch_us(max(_time)) - epoch_us(min(_time))) / 1e6 AS duration_seconds, sum(_events)::BIGINT AS events, "
        "CASE WHEN bool_or(_ended) THEN 'ended' ELSE 'timed_out' END AS outcome "
        f"FROM _numbered GROUP BY {keys}, _number "
        f"HAVING epoch_us(max(_time)) + CASE WHEN bool_or(_ended) THEN 0 ELSE {gap} END <= {watermark_ms * 1000}"
    )


def windows(declared: Window, time: str, rows: str, late: str, watermark: float) -> str:
    """The windows that are final at a watermark (seconds since the epoch): start and end, the keys, the measures.

    `rows` is a view of silver's rows, `time` their event time, `late` a view of those that came too late, each with the
    window_start that it missed. Sums and averages have their `size` beside them.
    """
    length, every = declared.window.total_seconds(), declared.every.total_seconds()
    newest = f"time_bucket(INTERVAL '{every} seconds', {name(time)}, TIMESTAMPTZ '1970-01-01 00:00:00+00')"
    start = f"{newest} - _back * INTERVAL '{every} seconds'"
    matching = " AND ".join(["true", *(f"{name(column)} = {text(value)}" for column, value in declared.where.items())])
    measures = ", ".join(
        f"{function} AS {output}"
        for column, one in declared.measures.items()
        for output, function in _columns(column, one)
    )
    return (
        f"SELECT {names(('window_start', 'window_end', *declared.keys))}, {measures} FROM (SELECT * FROM "
        f"(SELECT *, {start} AS window_start, window_start + INTERVAL '{length} seconds' AS window_end "
        f"FROM {rows}, range({int(length // every)}) _windows(_back) WHERE {matching}) "
        f'ANTI JOIN {late} USING (partition, "offset", window_start)) '
        f"GROUP BY ALL HAVING epoch(window_end) <= {watermark}"
    )


def size(column: str) -> str:
    """The column that has a sum or an average without the signs: what is lost to rounding is a part of that."""
    return name(f"_size_{column}")


def as_stored(table: Flow, rows: str) -> str:
    """Windows or sessions with their keys as PostgreSQL holds them (sinks/postgres_identity.py)."""
    keys = (table.window if table.is_windowed else table.session).keys
    replaced = ", ".join(f"replace({name(key)}, chr(0), chr(65533)) AS {name(key)}" for key in keys)
    return f"SELECT * REPLACE ({replaced}) FROM ({rows})" if keys else rows


def csv_columns(feed: Feed) -> str:
    """Silver's columns as the CSV shows them: text that a spreadsheet would run has an apostrophe before it."""
    return ", ".join(
        f"{_harmless(_present(name(column)))} AS {name(column)}" if field.type == "string" else name(column)
        for column, field in feed.fields.items()
    )


def csv_texts(feed: Feed) -> str:
    """The CSV's columns as they are compared: a text that is empty and one that is not there look alike in it."""
    return ", ".join(
        f"{_present(name(column))} AS {name(column)}" if field.type == "string" else name(column)
        for column, field in feed.fields.items()
    )


def _columns(column: str, measure: Measure) -> list[tuple[str, str]]:
    columns = [(name(column), _aggregate(measure))]
    if measure.function in {"sum", "avg"}:
        columns.append((size(column), f"{measure.function}(abs({name(measure.field or '')}::DOUBLE))"))
    return columns


def _aggregate(measure: Measure) -> str:
    if measure.function == "distinct":
        return f"count(DISTINCT {name(measure.field or '')})"
    return f"{measure.function}({name(measure.field) if measure.field else '*'})"


def _present(column: str) -> str:
    return f"coalesce({column}, '')"


def _harmless(column: str) -> str:
    runs = f"regexp_matches({column}, '^[=+\\-@\\t\\r\\n]')"
    return f"CASE WHEN {runs} THEN chr(39) || {column} ELSE {column} END"


def final(table: Flow, watermark_ms: int) -> str:
    """The SQL for the rows of a table's copy that were final at that watermark; the table may be ahead of it."""
    ended = "epoch_us(window_end)"
    if not table.is_windowed:
        ended = f"epoch_us(session_end) + CASE outcome WHEN 'ended' THEN 0 ELSE {microseconds(table.session.gap)} END"
    copied = f"{name(table.feed.name)}.{name(table.sink)}"
    return f"SELECT * EXCLUDE (final) FROM {copied} WHERE final AND {ended} <= {watermark_ms * 1000}"
