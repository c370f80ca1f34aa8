"""What follows silver is compared with silver: the CSV and lakes row by row, windows and sessions computed anew.

The database has each flow as `_actual_<sink>`, the rows of silver that it has taken as `_due_<sink>`, and its late rows
as `_late_<sink>`. Feeds name their sinks and columns, and no name of theirs begins with an underscore.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Measure
from stream_app.flows.flow import Flow, Layer
from stream_app.ops import recompute
from stream_app.ops.audit.findings import Findings
from stream_app.ops.sql import name, names
from stream_app.ops.views import COORDINATES


@dataclass(frozen=True)
class Gone:
    """What RETENTION=prune took."""

    since: int | None = None
    """Rows of silver that were pruned have event times up to this one, in microseconds since the epoch."""
    own: bool = False
    """Whether the flow's first files are gone, too."""


@dataclass(frozen=True)
class Derived:
    """Compares what follows silver."""

    database: duckdb.DuckDBPyConnection
    feed: Feed
    findings: Findings

    def windows(self, flow: Flow, watermark_ms: int, gone: Gone) -> int:
        """Note windows that are not what silver's rows add up to; return how many could not be looked at."""
        declared, sink = flow.window, flow.sink
        actual = name(f"_actual_{sink}")
        keys = ("window_start", "window_end", *declared.keys)
        self._once(flow, "window", keys)
        time, due, late = self.feed.event_time.field, name(f"_due_{sink}"), name(f"_late_{sink}")
        expected = recompute.windows(declared, time, due, late, watermark_ms / 1000)
        joined = list(map(name, keys))
        if flow.layer is Layer.TABLE:
            # keys with a NUL look like others in PostgreSQL, and are rows of their own all the same
            expected = recompute.as_stored(flow, expected)
            nth = f"row_number() OVER (PARTITION BY {names(keys)} ORDER BY {names(declared.measures)}) AS _nth"
            actual, expected = (f"(SELECT *, {nth} FROM {rows})" for rows in (actual, f"({expected})"))
            joined.append("_nth")
        actual, expected, unseen = self._looked_at(actual, expected, "epoch_us(window_start)", "window_end", gone)
        differ = " OR ".join(self._differs(column, measure) for column, measure in declared.measures.items())
        self.findings.query(
            self.database,
            f"{sink} is not what silver's final windows add up to",
            f"SELECT {', '.join(f'coalesce(_a.{key}, _e.{key}) AS {key}' for key in map(name, keys))} FROM {actual} _a "
            f"FULL JOIN {expected} _e ON {' AND '.join(f'_a.{key} = _e.{key}' for key in joined)} "
            f"WHERE _a.window_start IS NULL OR _e.window_start IS NULL OR {differ}",
        )
        return unseen

    def sessions(self, flow: Flow, watermark_ms: int, gone: Gone) -> int:
        """Note sessions that are not what silver's rows add up to; return how many could not be looked at."""
        declared, sink = flow.session, flow.sink
        actual, late = name(f"_actual_{sink}"), name(f"_late_{sink}")
        self._once(flow, "session", ("session_start", *declared.keys))
        rows = f'(SELECT * FROM {name(f"_due_{sink}")} ANTI JOIN {late} USING (partition, "offset"))'
        expected = recompute.sessions(declared, self.feed.event_time.field, rows, watermark_ms)
        if flow.layer is Layer.TABLE:
            expected = recompute.as_stored(flow, expected)
        gap = int(declared.gap.total_seconds() * 1_000_000)
        final = f"session_end + to_microseconds(CASE outcome WHEN 'ended' THEN 0 ELSE {gap} END)"
        start = f"epoch_us(session_start) - {gap}"
        actual, expected, unseen = self._looked_at(actual, expected, start, final, gone)
        columns = names((*declared.keys, "session_start", "session_end", "duration_seconds", "events", "outcome"))
        actual, expected = f"(SELECT {columns} FROM {actual})", f"(SELECT {columns} FROM {expected})"
        self.findings.query(
            self.database,
            f"{sink} is not what silver's final sessions are",
            f"({actual} EXCEPT ALL {expected}) UNION ALL ({expected} EXCEPT ALL {actual})",
        )
        return unseen

    def mirror(self, flow: Flow) -> None:
        """Note rows of the CSV or of a lake that are not silver's, and of silver that are not there."""
        self._same(flow, *self._mirrored(flow))

    def pruned_csv(self, flow: Flow) -> int:
        """Compare the newest rows of both, as many as both have; return how many more one has."""
        self.database.execute("SET preserve_insertion_order = true")
        both = self._mirrored(flow)
        counts = [self._number(f"SELECT count(*) FROM {rows}") for rows in both]
        tails = (
            f"(SELECT * EXCLUDE (_number) FROM (SELECT *, row_number() OVER () AS _number FROM {rows}) "
            f"WHERE _number > {count - min(counts)})"
            for rows, count in zip(both, counts, strict=True)
        )
        self._same(flow, *tails)
        self.database.execute("SET preserve_insertion_order = false")
        return max(counts) - min(counts)

    def pruned_lake(self, flow: Flow, *, silver: bool, lake: bool) -> int:
        """Compare what both have; return how many rows only one has, as files of silver or of the lake were pruned.

        Of the files of a date the oldest go first, and with them the first offsets of its records.
        """
        expected, actual = self._mirrored(flow)
        place, time = 'partition, "offset"', f"CAST({name(self.feed.event_time.field)} AS DATE)"
        differ = " OR ".join(
            f"_a.{name(column)} IS DISTINCT FROM _e.{name(column)}" for column in (*self.feed.fields, *COORDINATES)
        )
        both = f'SELECT _a.partition, _a."offset" FROM {actual} _a JOIN {expected} _e USING ({place}) WHERE {differ}'
        self.findings.query(self.database, f"{flow.sink} is not silver", both)
        lacking = f"FROM {expected} _e ANTI JOIN {actual} _a USING ({place})"
        foreign = f"FROM {actual} _a ANTI JOIN {expected} _e USING ({place})"
        unseen = 0
        if lake:
            first = f'(SELECT partition AS _of, {time} AS _date, min("offset") AS _first FROM {actual} GROUP BY ALL)'
            later = f'{first} _f ON partition = _of AND {time} = _date AND "offset" > _first'
            unseen += self._number(f"SELECT count(*) FROM (SELECT * {lacking}) ANTI JOIN {later}")
            lacking = f"FROM (SELECT * {lacking}) SEMI JOIN {later}"
        if silver:
            unseen += self._number(f"SELECT count(*) {foreign}")
        else:
            self.findings.query(self.database, f"{flow.sink} is not silver", f"SELECT {place} {foreign}")
        self.findings.query(self.database, f"{flow.sink} lacks rows of silver", f"SELECT {place} {lacking}")
        return unseen

    def _once(self, flow: Flow, what: str, keys: Sequence[str]) -> None:
        """Note keys of which several rows stand; of a table, whose keys may look alike, the comparison tells."""
        if flow.layer is not Layer.TABLE:
            twice = f"SELECT {names(keys)} FROM {name(f'_actual_{flow.sink}')} GROUP BY ALL HAVING count(*) > 1"
            self.findings.query(self.database, f"a {what} of {flow.sink} stands twice", twice)

    def _differs(self, column: str, measure: Measure) -> str:
        """Whether a measure differs: a sum of doubles depends on their order, an average of decimals is rounded.

        Numbers of both signs leave little of a sum, and the rounding of the largest is no smaller for that. Where even
        the sizes add up to infinity, any sum can be right.
        """
        actual, expected = f"_a.{name(column)}", f"_e.{name(column)}"
        field = self.feed.fields.get(measure.field or "")
        decimals = field.precision_scale[1] if field and field.precision_scale else None
        if field and measure.function == "avg" and decimals is not None:
            within = f"1e-{decimals + 4} + 1e-12 * abs({expected})"
        elif field and (measure.function == "avg" or (measure.function, field.type) == ("sum", "double")):
            within = f"1e-9 * greatest(1, _e.{recompute.size(column)})"
        else:
            return f"{actual} IS DISTINCT FROM {expected}"
        differs = f"{actual} IS NULL OR (isfinite({within}) AND abs({actual} - {expected}) > {within})"
        return f"coalesce({differs}, true)"

    def _looked_at(self, actual: str, expected: str, start: str, final: str, gone: Gone) -> tuple[str, str, int]:
        """Both without what may lack rows, or was in a file that was pruned; and how many that leaves out.

        Files are in the order in which windows and sessions became final.
        """
        complete = "true" if gone.since is None else f"{start} > {gone.since}"
        first = f"(SELECT min({final}) FROM {actual})"
        still = f"coalesce({final} >= {first}, false)" if gone.own else "true"
        whole, seen = f"({expected})", f"{complete} AND {still}"
        if seen == "true AND true":
            return actual, whole, 0
        left_out = sum(self._number(f"SELECT count(*) FROM {rows} WHERE NOT ({seen})") for rows in (actual, whole))
        return f"(FROM {actual} WHERE {seen})", f"(FROM {whole} WHERE {seen})", left_out

    def _mirrored(self, flow: Flow) -> tuple[str, str]:
        """Silver's rows as the flow has them, and the flow's own."""
        columns = (names((*self.feed.fields, *COORDINATES)),) * 2
        if flow.layer is Layer.RAW_CSV:
            columns = recompute.csv_columns(self.feed), recompute.csv_texts(self.feed)
        return (
            f"(SELECT {columns[0]} FROM {name(f'_due_{flow.sink}')})",
            f"(SELECT {columns[1]} FROM {name(f'_actual_{flow.sink}')})",
        )

    def _same(self, flow: Flow, expected: str, actual: str) -> None:
        sums = "SELECT count(*), sum(hash(_row)::HUGEINT) FROM"  # a row as a whole
        both = [self.database.sql(f"{sums} {rows} _row").fetchall() for rows in (expected, actual)]
        if both[0] != both[1]:
            differ = f"({actual} EXCEPT ALL {expected}) UNION ALL ({expected} EXCEPT ALL {actual})"
            shown = "csv" if flow.layer is Layer.RAW_CSV else flow.sink
            self.findings.query(self.database, f"{shown} is not silver", differ)

    def _number(self, sql: str) -> int:
        return int(self.database.sql(sql).fetchall()[0][0])
