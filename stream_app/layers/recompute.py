"""Windows and sessions computed anew from silver in DuckDB, by other means than the service's, for the audit."""

from __future__ import annotations

from collections.abc import Sequence

from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Measure, Session, Window
from stream_app.feeds.sql import name, names, text


def sessions(session: Session, time: str, rows: str, watermark_ms: float) -> str:
    """Return the SQL for the sessions of a view's rows that are final at that watermark.

    The watermark is in milliseconds since the epoch. The columns are those of layers/sessions.py.
    """
    keys, gap, time = names(session.keys), session.gap.total_seconds() * 1_000_000, name(time)
    matches = " AND ".join(f"{name(column)} = {text(value)}" for column, value in session.ends.items()) or "false"
    return (
        # records of one time are one step on the line of their keys
        f"WITH _steps AS (SELECT {keys}, {time} AS _time, count(*) AS _events, "
        f"bool_or(coalesce({matches}, false)) AS _ended FROM {rows} GROUP BY ALL), "
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
    """Return the SQL for the windows that are final at a watermark, in seconds since the epoch.

    The columns are start and end, the keys, the measures. Sums and averages have their `size` beside them. `rows` is a
    view of silver's rows, and `time` their event time. `late` is a view of the rows that came too late, each with the
    window_start that it missed.
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


def differing_windows(feed: Feed, declared: Window, actual: str, expected: str, *, alike: bool) -> str:
    """Return the SQL for the keys of windows that only one has, or whose measures differ.

    `alike`: rows whose keys look the same are paired in the order of their measures.
    """
    keys = ("window_start", "window_end", *declared.keys)
    joined = list(map(name, keys))
    if alike:
        nth = f"row_number() OVER (PARTITION BY {names(keys)} ORDER BY {names(declared.measures)}) AS _nth"
        actual, expected = (f"(SELECT *, {nth} FROM {rows})" for rows in (actual, expected))
        joined.append("_nth")
    differ = " OR ".join(_differs(feed, column, measure) for column, measure in declared.measures.items())
    return (
        f"SELECT {', '.join(f'coalesce(_a.{key}, _e.{key}) AS {key}' for key in map(name, keys))} FROM {actual} _a "
        f"FULL JOIN {expected} _e ON {' AND '.join(f'_a.{key} IS NOT DISTINCT FROM _e.{key}' for key in joined)} "
        f"WHERE _a.window_start IS NULL OR _e.window_start IS NULL OR {differ}"
    )


def differing_rows(columns: Sequence[str], actual: str, expected: str) -> str:
    """Return the SQL for the rows that only one has."""
    actual, expected = (f"(SELECT {names(columns)} FROM {rows})" for rows in (actual, expected))
    return f"({actual} EXCEPT ALL {expected}) UNION ALL ({expected} EXCEPT ALL {actual})"


def _differs(feed: Feed, column: str, measure: Measure) -> str:
    """Return whether a measure differs: a sum of doubles depends on their order, an average of decimals is rounded.

    Numbers of both signs leave little of a sum, and the rounding of the largest is no smaller for that. Where even
    the sizes add up to infinity, any sum can be right.
    """
    actual, expected = f"_a.{name(column)}", f"_e.{name(column)}"
    field = feed.values.get(measure.field or "")
    decimals = field.precision_scale[1] if field and field.precision_scale else None
    if field and measure.function == "avg" and decimals is not None:
        within = f"1e-{decimals + 4} + 1e-12 * abs({expected})"
    elif field and (measure.function == "avg" or (measure.function, field.type) == ("sum", "double")):
        within = f"1e-9 * greatest(1, _e.{_size(column)})"
    else:
        return f"{actual} IS DISTINCT FROM {expected}"
    differs = f"{actual} IS NULL OR (isfinite({within}) AND abs({actual} - {expected}) > {within})"
    return f"coalesce({differs}, true)"


def _size(column: str) -> str:
    """Return the column that has a sum or an average without the signs: what is lost to rounding is a part of that."""
    return name(f"_size_{column}")


def _columns(column: str, measure: Measure) -> list[tuple[str, str]]:
    columns = [(name(column), _aggregate(measure))]
    if measure.function in {"sum", "avg"}:
        columns.append((_size(column), f"{measure.function}(abs({name(measure.field or '')}::DOUBLE))"))
    return columns


def _aggregate(measure: Measure) -> str:
    if measure.function == "distinct":
        return f"count(DISTINCT {name(measure.field or '')})"
    return f"{measure.function}({name(measure.field) if measure.field else '*'})"
