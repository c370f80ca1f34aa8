"""What follows a layer is compared with it: copies row by row; windows and sessions are computed again from silver.

The database has each flow as `_actual_<sink>`, the rows that it has taken of the layer before as `_due_<sink>`, and its
late rows as `_late_<sink>`. Feeds name their sinks and columns, and no name of theirs begins with an underscore.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import duckdb

from stream_app.feeds.sql import name, names
from stream_app.flows.flow import Flow
from stream_app.layers.aggregate import Running, Stateful
from stream_app.ops.audit.findings import Findings
from stream_app.sinks.protocol import sink_of


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
    findings: Findings

    def aggregates(self, flow: Flow, stateful: Stateful, watermark_ms: int, gone: Gone) -> int:
        """Note windows or sessions that silver's rows do not add up to; return how many could not be looked at."""
        sink, is_copied = flow.sink, sink_of(flow).is_copied
        actual, due, late = (name(f"_{what}_{sink}") for what in ("actual", "due", "late"))
        expected = stateful.expected(due, late, watermark_ms)
        if is_copied:
            expected = self._as_copied(flow, expected)
        else:
            twice = f"SELECT {names(stateful.identity)} FROM {actual} GROUP BY ALL HAVING count(*) > 1"
            self.findings.query(self.database, f"a {stateful.noun} of {sink} is there twice", twice)
        actual, expected, unseen = self._looked_at(actual, expected, stateful.since, stateful.until, gone)
        differ = stateful.differing(actual, expected, alike=is_copied)
        self.findings.query(self.database, f"{sink} is not what silver's final {stateful.noun}s are", differ)
        return unseen

    def totals(self, flow: Flow, running: Running) -> None:
        """Note totals that silver's rows do not add up to."""
        actual, due, is_copied = name(f"_actual_{flow.sink}"), name(f"_due_{flow.sink}"), sink_of(flow).is_copied
        expected = self._as_copied(flow, running.expected(due)) if is_copied else running.expected(due)
        differ = running.differing(actual, f"({expected})", alike=is_copied)
        self.findings.query(self.database, f"{flow.sink} is not what silver's {running.noun}s are", differ)

    def mirror(self, flow: Flow) -> None:
        """Note rows that are not those of the layer before, and rows of that which are not there."""
        self._same(flow, *self._mirrored(flow))

    def pruned_in_order(self, flow: Flow) -> int:
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

    def pruned_by_place(self, flow: Flow, *, layer: bool, own: bool) -> int:
        """Compare what both have; return how many rows only one has, as files of one or the other were pruned.

        Of the files of a date the oldest go first, and with them the first offsets of its records.
        """
        expected, actual = self._mirrored(flow)
        of, sink = flow.kind.name, flow.sink
        place, time = 'partition, "offset"', f"CAST({name(flow.kind.time)} AS DATE)"
        differ = " OR ".join(
            f"_a.{name(column)} IS DISTINCT FROM _e.{name(column)}" for column in flow.kind.columns.names
        )
        both = f'SELECT _a.partition, _a."offset" FROM {actual} _a JOIN {expected} _e USING ({place}) WHERE {differ}'
        self.findings.query(self.database, f"{sink} is not {of}", both)
        lacking = f"FROM {expected} _e ANTI JOIN {actual} _a USING ({place})"
        foreign = f"FROM {actual} _a ANTI JOIN {expected} _e USING ({place})"
        unseen = 0
        if own:
            first = f'(SELECT partition AS _of, {time} AS _date, min("offset") AS _first FROM {actual} GROUP BY ALL)'
            later = f'{first} _f ON partition = _of AND {time} = _date AND "offset" > _first'
            unseen += self._number(f"SELECT count(*) FROM (SELECT * {lacking}) ANTI JOIN {later}")
            lacking = f"FROM (SELECT * {lacking}) SEMI JOIN {later}"
        if layer:
            unseen += self._number(f"SELECT count(*) {foreign}")
        else:
            self.findings.query(self.database, f"{sink} is not {of}", f"SELECT {place} {foreign}")
        self.findings.query(self.database, f"{sink} lacks rows of {of}", f"SELECT {place} {lacking}")
        return unseen

    def _as_copied(self, flow: Flow, rows: str) -> str:
        """Return rows as PostgreSQL holds them: keys with a NUL look like others there, and are rows of their own."""
        own = ", ".join(f"{stored} AS {column}" for column, stored in _as_stored(flow.kind.sql_columns))
        return f"SELECT * REPLACE ({own}) FROM ({rows})" if own else rows

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
        """Return the rows of the layer before as the flow has them, and the flow's own."""
        columns = sink_of(flow).compared(flow.kind)
        assert columns  # noqa: S101 - it can be compared
        due, actual = (name(f"_{what}_{flow.sink}") for what in ("due", "actual"))
        return f"(SELECT {columns[0]} FROM {due})", f"(SELECT {columns[1]} FROM {actual})"

    def _same(self, flow: Flow, expected: str, actual: str) -> None:
        sums = "SELECT count(*), sum(hash(_row)::HUGEINT) FROM"  # a row as a whole
        both = [self.database.sql(f"{sums} {rows} _row").fetchall() for rows in (expected, actual)]
        if both[0] != both[1]:
            differ = f"({actual} EXCEPT ALL {expected}) UNION ALL ({expected} EXCEPT ALL {actual})"
            self.findings.query(self.database, f"{flow.sink} is not {flow.kind.name}", differ)

    def _number(self, sql: str) -> int:
        return int(self.database.sql(sql).fetchall()[0][0])


def _as_stored(columns: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each column of texts, and as PostgreSQL holds it (sinks/postgres_identity.py)."""
    texts = (name(column) for column, kind in columns.items() if kind == "VARCHAR")
    yield from ((text, f"replace({text}, chr(0), chr(65533))") for text in texts)
