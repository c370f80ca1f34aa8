"""Sessions: what the records of the same keys add up to, each session once, when it is final (session_state.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from duckdb import DuckDBPyConnection
from pyspark.sql import DataFrame
from pyspark.sql.types import DoubleType, LongType, StringType, StructField, StructType, TimestampType

from stream_app.contract.times import microseconds
from stream_app.feeds import schema
from stream_app.feeds.parts import Session
from stream_app.feeds.sql import name, names
from stream_app.layers import recompute
from stream_app.layers.aggregate import Stateful
from stream_app.layers.late import old_rows
from stream_app.layers.origin import How, Origin, Origins, deciding, same
from stream_app.layers.session_state import sessions

_FOUND = StructType(
    [
        StructField("session_start", TimestampType()),
        StructField("session_end", TimestampType()),
        StructField("duration_seconds", DoubleType()),
        StructField("events", LongType()),
        StructField("outcome", StringType()),
    ]
)


@dataclass(frozen=True)
class Sessions(Stateful):
    """Sessions as a dataset: [sessions.<name>]."""

    opened: ClassVar[str] = "session_start"
    noun: ClassVar[str] = "session"
    replaces_open: ClassVar[bool] = True
    late_columns: ClassVar[Mapping[str, str]] = {}
    late_key: ClassVar[tuple[str, ...]] = ()

    @property
    def declared(self) -> Session:
        """What the feed file says of it."""
        return self.feed.sessions[self.name]

    @property
    def identity(self) -> tuple[str, ...]:
        """When it began, and the keys."""
        return (self.opened, *self.keys)

    @property
    def columns(self) -> StructType:
        """The keys, session_start, session_end, duration_seconds, events, outcome."""
        return StructType([*(schema.fields(self.feed)[key] for key in self.keys), *_FOUND])

    @property
    def origins(self) -> Mapping[str, Origins]:
        """The keys, the times of the first and the last record, and how it ended; a count is made of no column."""
        times = (Origin(self.feed.event_time.field, How.AGGREGATION, by="session"),)
        ended = tuple(Origin(column, How.AGGREGATION, by="ends") for column in self.declared.ends)
        bounds = dict.fromkeys(("session_start", "session_end", "duration_seconds"), times)
        return {**same(self.keys), **bounds, "events": (), "outcome": ended}

    @property
    def decided_by(self) -> Origins:
        """The event time, the keys, and what ends a session."""
        time, ends = self.feed.event_time.field, self.declared.ends
        return (*deciding(How.WINDOW, dict.fromkeys((time, *ends))), *deciding(How.GROUP_BY, self.keys))

    def transform(self, rows: DataFrame, *, fresh: bool) -> DataFrame:
        """Find the sessions of silver's rows."""
        return sessions(rows, self.feed, self.declared, fresh=fresh)

    def missed(self, file: pq.ParquetFile, watermark_ms: int) -> pa.Table:
        """Return the late rows: which session each would belong to, rows to come decide."""
        return old_rows(file, self.late_rows, self.feed.event_time.field, watermark_ms * 1000 + 1)

    def expected(self, rows: str, late: str, watermark_ms: int) -> str:
        """Return the SQL for the sessions that are final."""
        in_time = f'(SELECT * FROM {rows} ANTI JOIN {late} USING (partition, "offset"))'
        return recompute.sessions(self.declared, self.feed.event_time.field, in_time, watermark_ms)

    def timed(self, rows: pa.Table) -> pa.Table:
        """Return all rows."""
        return rows

    def computed(self, database: DuckDBPyConnection, rows: str, late: str, watermark_ms: int) -> pa.Table:
        """Return the sessions that are final, by their start and their keys."""
        found = self.expected(rows, late, watermark_ms)
        return database.sql(f"SELECT * FROM ({found}) ORDER BY {names(self.identity)}").to_arrow_table()

    def differing(self, actual: str, expected: str, *, alike: bool) -> str:  # noqa: ARG002 - whole rows are compared
        """Return the SQL for sessions that differ."""
        return recompute.differing_rows((*self.keys, *_FOUND.names), actual, expected)

    @property
    def since(self) -> str:
        """A pause before the session began."""
        return f"epoch_us(session_start) - {microseconds(self.declared.gap)}"

    @property
    def until(self) -> str:
        """When it ended, or after a pause from then on."""
        pause = microseconds(self.declared.gap)
        return f"epoch_us(session_end) + CASE outcome WHEN 'ended' THEN 0 ELSE {pause} END"

    @property
    def late_by(self) -> str:
        """The row's own time."""
        return f"epoch_us({name(self.feed.event_time.field)})"

    @property
    def wrongly_late(self) -> str:
        """Return false: a late row says nothing of a session."""
        return "false"
