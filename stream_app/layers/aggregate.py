"""What silver's rows add up to: datasets whose query keeps state. Each kind is a file of this folder (kind.py)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import ClassVar, Self

import pyarrow as pa
import pyarrow.parquet as pq
from duckdb import DuckDBPyConnection
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from stream_app.contract.references import SnapshotOf
from stream_app.feeds.parts import Session, Total, Window
from stream_app.feeds.schema import silver, types_of
from stream_app.feeds.sql import name
from stream_app.layers import idle_clock
from stream_app.layers.kind import Kind
from stream_app.layers.reading import Reading

FINAL = "final"
"""The column of fresh rows that says whether they change no more."""


@dataclass(frozen=True)
class Aggregate(Kind):
    """A dataset of what silver's rows add up to, by a query that keeps state."""

    noun: ClassVar[str]
    """What one of its rows is called."""

    @property
    @abstractmethod
    def declared(self) -> Window | Session | Total:
        """What the feed file says of it."""

    @property
    def aggregate(self) -> Self:
        """Itself."""
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that its rows are counted by."""
        return self.declared.keys

    @property
    def state(self) -> Mapping[str, object]:
        """The declaration, the event time, and the types of the columns that it reads."""
        reads = {name: one.name for name, one in types_of(self.taken).items()}
        return {**self.declared.model_dump(mode="json"), "event_time": self.feed.event_time.field, "fields": reads}

    @property
    def shape(self) -> list[object]:
        """Silver's columns and the declaration."""
        feed = self.feed
        fields: list[object] = [list(feed.values), [field.as_type.name for field in feed.values.values()]]
        return [*fields, self.declared.model_dump_json(), feed.event_time.field]

    @property
    def taken(self) -> StructType:
        """The event time and the columns that the declaration names, of silver."""
        needed = {self.feed.event_time.field, *self.declared.columns}
        return StructType([field for field in silver(self.feed) if field.name in needed])

    def reading(self, clock: int, snapshot_of: SnapshotOf | None, *, replayed: bool) -> Reading:  # noqa: ARG002
        """Return how a task reads those columns of silver."""
        return Reading.plain(self.taken)

    @property
    @abstractmethod
    def identity(self) -> tuple[str, ...]:
        """The columns that no two rows share."""

    @abstractmethod
    def transform(self, rows: DataFrame, *, fresh: bool) -> DataFrame:
        """Return the dataset's rows; with `fresh` each that a batch changes (output mode update)."""

    @abstractmethod
    def differing(self, actual: str, expected: str, *, alike: bool) -> str:
        """Return the SQL for the keys of rows that one has and the other has not, or not so.

        `alike`: several rows may have keys that look the same, as in PostgreSQL, which holds no NUL.
        """


@dataclass(frozen=True)
class Running(Aggregate):
    """An aggregate without an end: any batch may change any row, so it is where rows are kept by key, and no folder."""

    has_folder: ClassVar[bool] = False

    @property
    def running(self) -> Self:
        """Itself."""
        return self

    @property
    @abstractmethod
    def most(self) -> int | None:
        """How many rows are kept, the first by `ranks`; None for all."""

    @property
    @abstractmethod
    def ranks(self) -> tuple[tuple[str, bool], ...]:
        """The columns that rows are ordered by, and whether the greatest of each is first. Null comes last."""

    @abstractmethod
    def expected(self, rows: str) -> str:
        """Return the SQL for what a view of silver's rows adds up to, by other means than the service's."""

    @abstractmethod
    def computed(self, database: DuckDBPyConnection, rows: str) -> pa.Table:
        """Return what `expected` finds in order, and with the digits that Spark has."""


@dataclass(frozen=True)
class Stateful(Aggregate):
    """A dataset whose query has a watermark: windows and sessions, each out once, when it is final."""

    opened: ClassVar[str]
    """The column with the time at which a window or a session began."""
    replaces_open: ClassVar[bool]
    """Whether a fresh query brings all open rows of a key again, each with `final`; else one row a change."""
    late_columns: ClassVar[Mapping[str, str]]
    """What late rows have before silver's columns, as DuckDB's types."""
    late_key: ClassVar[tuple[str, ...]]
    """What tells apart the late rows of one record."""

    @property
    @abstractmethod
    def declared(self) -> Window | Session:
        """What the feed file says of it."""

    @property
    def stateful(self) -> Self:
        """Itself."""
        return self

    @property
    def clocked(self) -> StructType:
        """Those columns, and the one by which the clock goes on without a record."""
        return idle_clock.with_clock(self.feed, self.taken)

    def reading(self, clock: int, snapshot_of: SnapshotOf | None, *, replayed: bool) -> Reading:
        """Return how a task reads those columns of silver."""
        plain = super().reading(clock, snapshot_of, replayed=replayed)
        if self.feed.event_time.idle is None:
            return plain
        return replace(plain, function=idle_clock.records, idle=partial(idle_clock.row, self.feed, self.taken))

    @property
    def watermark(self) -> timedelta:
        """How much later than the newest event time a record may come and still count."""
        return self.declared.watermark

    @property
    def time(self) -> str:
        """When the window or the session began."""
        return self.opened

    @property
    def newest_first(self) -> str:
        """By that time, then by the keys."""
        return ", ".join((f"{self.opened} DESC", *map(name, self.keys)))

    @property
    def late_rows(self) -> pa.Schema:
        """What late rows have of the record: silver's columns."""
        return to_arrow_schema(silver(self.feed), timezone="UTC")

    @abstractmethod
    def missed(self, file: pq.ParquetFile, watermark_ms: int) -> pa.Table:
        """Return the rows of a file of silver that Spark drops by that watermark; it closes the file."""

    @abstractmethod
    def expected(self, rows: str, late: str, watermark_ms: int) -> str:
        """Return the SQL for what is final at a watermark, by other means than the service's.

        `rows` is a view of silver's rows, `late` one of the rows that came too late.
        """

    @abstractmethod
    def timed(self, rows: pa.Table) -> pa.Table:
        """Return those of silver's rows that move the watermark."""

    @abstractmethod
    def computed(self, database: DuckDBPyConnection, rows: str, late: str, watermark_ms: int) -> pa.Table:
        """Return what `expected` finds in order, and with the digits that Spark has."""

    @property
    @abstractmethod
    def since(self) -> str:
        """The SQL for the earliest event time that a row may have counted, in microseconds since the epoch."""

    @property
    @abstractmethod
    def until(self) -> str:
        """The SQL for the watermark at which a row is final, in microseconds since the epoch."""

    @property
    @abstractmethod
    def late_by(self) -> str:
        """The SQL for the watermark at which a late row came too late, in microseconds since the epoch."""

    @property
    @abstractmethod
    def wrongly_late(self) -> str:
        """The SQL for whether a late row says anything of itself that is not so."""
