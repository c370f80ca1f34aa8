"""Windows, sessions and totals computed from silver by DuckDB, by other means than the service's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Measure, Session, Total, Window
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
    return (
        f"SELECT {names(('window_start', 'window_end', *declared.keys))}, {_measured(declared.measures)} FROM "
        f"(SELECT * FROM (SELECT *, {start} AS window_start, window_start + INTERVAL '{length} seconds' AS window_end "
        f"FROM {rows}, range({int(length // every)}) _windows(_back) WHERE {_matching(declared.where)}) "
        f'ANTI JOIN {late} USING (partition, "offset", window_start)) '
        f"GROUP BY ALL HAVING epoch(window_end) <= {watermark}"
    )


def totals(declared: Total, rows: str) -> str:
    """Return the SQL for the totals of a view's rows: the keys, then the measures as `windows` has them."""
    measures = _measured(declared.measures)
    return f"SELECT {names(declared.keys)}, {measures} FROM {rows} WHERE {_matching(declared.where)} GROUP BY ALL"


def differing_measures(
    feed: Feed, keys: Sequence[str], measures: Mapping[str, Measure], actual: str, expected: str, *, alike: bool
) -> str:
    """Return the SQL for the keys of rows that only one has, or whose measures differ.

    `alike`: rows whose keys look the same are paired in the order of their measures.
    """
    joined = list(map(name, keys))
    if alike:
        nth = f"row_number() OVER (PARTITION BY {names(keys)} ORDER BY {names(measures)}) AS _nth"
        actual, expected = (f"(SELECT *, {nth} FROM {rows})" for rows in (actual, expected))
        joined.append("_nth")
    actual, expected = (f"(SELECT *, true AS _is FROM {rows})" for rows in (actual, expected))
    differ = " OR ".join(_differs(feed, column, measure) for column, measure in measures.items())
    return (
        f"SELECT {', '.join(f'coalesce(_a.{key}, _e.{key}) AS {key}' for key in map(name, keys))} FROM {actual} _a "
        f"FULL JOIN {expected} _e ON {' AND '.join(f'_a.{key} IS NOT DISTINCT FROM _e.{key}' for key in joined)} "
        f"WHERE _a._is IS NULL OR _e._is IS NULL OR {differ}"
    )


def differing_rows(columns: Sequence[str], actual: str, expected: str) -> str:
    """Return the SQL for the rows that only one has."""
    actual, expected = (f"(SELECT {names(columns)} FROM {rows})" for rows in (actual, expected))
    return f"({actual} EXCEPT ALL {expected}) UNION ALL ({expected} EXCEPT ALL {actual})"


def _matching(where: Mapping[str, str]) -> str:
    return " AND ".join(["true", *(f"{name(column)} = {text(value)}" for column, value in where.items())])


def _measured(measures: Mapping[str, Measure]) -> str:
    columns = (one for column, measure in measures.items() for one in _columns(column, measure))
    return ", ".join(f"{function} AS {output}" for output, function in columns)


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
    elif field and (measure.function == "avg" or (measure.function == "sum" and field.type in {"float", "double"})):
        within = f"1e-9 * greatest(1, _e.{_size(column)})"
    else:
        return f"{actual} IS DISTINCT FROM {expected}"
    differs = f"isfinite({within}) AND abs({actual} - {expected}) > {within}"
    return f"({actual} IS NULL) <> ({expected} IS NULL) OR coalesce({differs}, {actual} IS NOT NULL)"


def _size(column: str) -> str:
    """Return the column that has a sum or an average without the signs: what is lost to rounding is a part of that."""
    return name(f"_size_{column}")


def _columns(column: str, measure: Measure) -> list[tuple[str, str]]:
    columns = [(name(column), _aggregate(measure))]
    if measure.function in {"sum", "avg"}:
        columns.append((_size(column), f"{measure.function}(abs({name(measure.field or '')}::DOUBLE))"))
    return columns


def _aggregate(measure: Measure) -> str:
    if measure.function == "start":
        return "window_start"
    if measure.function == "distinct":
        return f"count(DISTINCT {name(measure.field or '')})"
    return f"{measure.function}({name(measure.field) if measure.field else '*'})"
