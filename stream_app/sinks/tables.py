"""Sinks that are tables: what their declarations share, whatever the format (storage/tables/).

Guarantee: exactly once. A batch's files and the note that it is in are one commit, so a batch that is run again changes
nothing. Rows are appended; with `fresh` windows and sessions are kept by key, as they are by now.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Annotated, ClassVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AfterValidator, StringConstraints, WithJsonSchema
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StringType, StructField, StructType

from stream_app.errors import ConfigError
from stream_app.feeds.parts import ColumnName, Duration, quoted
from stream_app.feeds.schema import PROVENANCE, types_of
from stream_app.feeds.types import Type, scalar
from stream_app.flows.flow import Flow
from stream_app.layers.aggregate import FINAL
from stream_app.layers.kind import Kind
from stream_app.layers.origin import How, Origin, Origins
from stream_app.layers.quarantine import text_of
from stream_app.layers.reading import Reading
from stream_app.object_stores import URL, TableRoot
from stream_app.sinks import table_rows
from stream_app.sinks.dates import DATE, dated
from stream_app.sinks.partitioning import PATTERN, Partitioning
from stream_app.sinks.protocol import Guarantee, Holding, Moment, Sink, Tools, Writer
from stream_app.sinks.table_tidy import Tidying
from stream_app.sinks.table_writer import Shape, TableWriter
from stream_app.sources.split_rows import Rows
from stream_app.storage.batch_files import BatchFile
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.opened import Opened
from stream_app.storage.tables.place import Place
from stream_app.storage.tables.places import place_of
from stream_app.storage.tables.table import File, Look, Table

VALUE, VALUE_TEXT = "value", "value_text"


def _location(value: str) -> str:
    if not _LOCATION.fullmatch(value):
        problem = "is neither a folder from the root on nor a URL such as s3://bucket/prefix, gs://… or az://…"
        raise ValueError(f"{quoted(value)} {problem}")
    return value if value.startswith("/") else value.rstrip("/")


_LOCATION = re.compile(rf"/.*|{URL.pattern}")
Location = Annotated[
    str, AfterValidator(_location), WithJsonSchema({"type": "string", "pattern": f"^({_LOCATION.pattern})$"})
]


class TableSink(Sink):
    """The dataset as a table whose log says which files are its rows."""

    location: Location | None = None
    """The folder of the table, from the root on, or its URL in a store; without it the sink's own, under DELTA_PATH."""
    partition_by: Annotated[str, StringConstraints(pattern=PATTERN)] | None = None
    """A column, or `date(<column>)` for the UTC date of a time, in a column event_date."""
    cluster_by: tuple[ColumnName, ...] = ()
    """The columns by which `make optimize` puts rows that are near each other into one file."""
    fresh: bool = False
    """Of windows and sessions: show them before they are final, kept by key, with a column `final`."""
    text: bool = False
    """Of bronze: have the text of `value` beside it, in a column `value_text`, with U+FFFD for what is no UTF-8."""
    dates: Duration = timedelta(days=400)
    """With `date(...)`: how old a date may be, when its batch is written, to be a partition. Without it 400 days."""

    guarantee: ClassVar[Guarantee] = Guarantee.EXACTLY_ONCE
    is_table: ClassVar[bool] = True
    keeps_by_key: ClassVar[bool] = True

    @abstractmethod
    def table(self, flow: Flow) -> Table:
        """Return the flow's table, which may not be there yet."""

    @abstractmethod
    def look(self, flow: Flow) -> Look | None:
        """Return what the flow's table holds by now; None where it is not there."""

    @property
    @abstractmethod
    def statistics(self) -> Callable[[pq.FileMetaData], str]:
        """What makes of a footer what the table's log says of a file."""

    def problems(self, kind: Kind) -> Iterator[tuple[str, str]]:
        """Yield columns that are not there or cannot be used so, and what cannot be kept fresh."""
        if problem := self.partitioning.problem(kind):
            yield "partition_by", problem
        if kind.running and self.partition_by and (problem := _unfit(kind, self.partition_by)):
            yield "partition_by", problem
        if kind.running and kind.running.most and self.partition_by:
            yield "partition_by", f"the first rows of {kind.name} are few, and kept together"
        if self.text and (VALUE not in kind.columns.names or VALUE_TEXT in kind.columns.names):
            yield "text", f"{kind.name} has no column {VALUE} without its text; bronze has"
        for column in self.cluster_by:
            if column not in kind.columns.names or column == self.partition_by:
                yield "cluster_by", f"{quoted(column)} is not a column in the files of {kind.name}"
        if self.fresh and kind.stateful is None:
            final = f"nothing of {kind.name} is open: its rows are final when they come"
            yield "fresh", f"{kind.name} always is; leave it out" if kind.running else final
        elif self.fresh and FINAL in kind.columns.names:
            yield (
                "fresh",
                f"{kind.name} has a column {FINAL}, and so would the table, whether a row is final; rename it",
            )

    def derives(self, kind: Kind) -> bool:
        """Return whether a query of the sink's own shows rows that may change yet."""
        return kind.running is not None or self._shows_open(kind)

    def archives(self, kind: Kind) -> bool:
        """Return whether it is of bronze: its files may go then, and be made again from the table (ops/archive.py)."""
        # an empty text to partition by is null in the table
        return kind.upstream is None and self.partition_by != "key"

    def _provenance(self, kind: Kind) -> dict[str, Type]:
        return types_of(PROVENANCE) if self.archives(kind) else {}

    def _shows_open(self, kind: Kind) -> bool:
        """Return whether there are windows or sessions that are not final."""
        return self.fresh and kind.stateful is not None

    def taken(self, kind: Kind) -> StructType:
        """Return the dataset's columns, with `text` that of its values, and of an archive PROVENANCE."""
        text = [StructField(VALUE_TEXT, StringType())] if self.text else []
        return StructType([*kind.columns, *text, *(PROVENANCE if self.archives(kind) else [])])

    def reading(self, kind: Kind) -> Reading:
        """Return how a task reads these."""
        columns = to_arrow_schema(self.taken(kind), timezone="UTC")

        def beside(batch: pa.RecordBatch) -> pa.RecordBatch:
            if self.text:
                texts = pa.array(map(text_of, batch[VALUE].to_pylist()), pa.string())
                batch = batch.append_column(VALUE_TEXT, texts)
            return batch.select(columns.names).cast(columns)

        return Reading(kind.columns, beside, has_provenance=self.archives(kind))

    def reader_columns(self, kind: Kind) -> dict[str, tuple[Type, Origins]]:
        """Return the dataset's columns, whether a fresh row is final, the text of a value, and a partition's date."""
        text = {VALUE_TEXT: (scalar("string"), (Origin(VALUE, How.TRANSFORMATION, by="as text"),))}
        final: dict[str, tuple[Type, Origins]] = {FINAL: (scalar("boolean"), ())} if self._shows_open(kind) else {}
        date = dated(time) if (time := self.partitioning.time) else {}
        kept: dict[str, tuple[Type, Origins]] = {column: (one, ()) for column, one in self._provenance(kind).items()}
        return super().reader_columns(kind) | final | (text if self.text else {}) | kept | date

    @property
    def claims(self) -> frozenset[str]:
        """The folder, where it is not the sink's own."""
        return frozenset({f"the folder {self.location}"}) if self.location else frozenset()

    @property
    def partitioning(self) -> Partitioning:
        """How the table is partitioned."""
        return Partitioning(self.partition_by)

    def table_root(self, flow: Flow) -> TableRoot:
        """Return DELTA_PATH, or the location, whose store is reached by the same settings."""
        if self.location is None:
            return flow.tables
        return flow.tables.at(self.location, f"sinks.{flow.sink}.location of {flow.feed.name}")

    def root(self, flow: Flow) -> Place:
        """Return where the table lies."""
        folder = "" if self.location else f"{flow.feed.name}/{flow.sink}"
        return place_of(self.table_root(flow), folder, flow.layout.staging)

    def place(self, flow: Flow) -> str:
        """Return the folder of the table, or its URL."""
        return self.root(flow).location

    def rows_of(self, kind: Kind) -> pa.Schema:
        """Return the columns of its rows, as a batch brings them: the dataset's, and whether a fresh one is final."""
        final = [pa.field(FINAL, pa.bool_())] if self._shows_open(kind) else []
        return pa.schema([*to_arrow_schema(self.taken(kind), timezone="UTC"), *final])

    def sql_columns(self, kind: Kind) -> dict[str, str]:
        """Return the columns of the table, as DuckDB's types."""
        added = ({FINAL: "BOOLEAN"} if self._shows_open(kind) else {}) | ({VALUE_TEXT: "VARCHAR"} if self.text else {})
        added |= {column: one.duckdb for column, one in self._provenance(kind).items()}
        return kind.sql_columns | added | ({DATE: "DATE"} if self.partitioning.time else {})

    def compared(self, kind: Kind) -> tuple[str, str]:
        """Return the dataset's columns as the table has them."""
        columns = ", ".join(map(self.partitioning.compared, kind.columns.names))
        return columns, columns

    def writer(self, flow: Flow, rows: Rows | None, tools: Tools) -> Writer:
        """Return what writes a part in each task, and commits them on the driver."""
        shape = Shape(self.root(flow), self.rows_of(flow.kind), self.partitioning, self.dates, self.statistics)
        return TableWriter(flow, self.table(flow), shape, rows, tools)

    def tidying(self, flow: Flow, hadoop: Hadoop, most: int) -> Callable[[], None]:
        """Return what merges small files where a partition has more than `most`, and deletes what no version needs."""
        return Tidying(flow.name, self.table(flow), hadoop, most, self.statistics).once

    def drop(self, flow: Flow) -> None:
        """Empty a table that is not in the sink's own folder, which a reset deletes, and let go of it."""
        table, own = self.table(flow), flow.layout.output.absolute()
        if table.location != str(own) and table.exists() and table.owner.get("sink") == flow.name:
            table.create(table.columns, table.partitioned_by, {"sink": flow.name, "query": ""}, table.kept_hours or 0)

    def select(self, flow: Flow, files: Sequence[BatchFile], opened: Opened) -> str:  # noqa: ARG002 - its log lists them
        """Return the SQL that reads the table as it is."""
        return self.select_at(flow, Moment(), opened)

    def select_at(self, flow: Flow, moment: Moment, opened: Opened) -> str:
        """Return the SQL that reads the table as it was. Raises ConfigError where nothing is kept of that moment."""
        files = self._files(flow, moment)
        return table_rows.select(self.root(flow), files, self.sql_columns(flow.kind), opened)

    def attach(self, connection: duckdb.DuckDBPyConnection, flow: Flow) -> None:
        """Have it read where the table lies."""
        self.root(flow).attach(connection)

    def committed(self, flow: Flow, files: Sequence[BatchFile], batch: int, opened: Opened) -> str:  # noqa: ARG002
        """Return the SQL for the rows that the table had once that batch was in; of a fresh one the final rows."""
        rows = self.select_at(flow, Moment(batch=batch), opened)
        return f"SELECT * EXCLUDE ({FINAL}) FROM ({rows}) WHERE {FINAL}" if flow.stateful else rows

    def misplaced(self, flow: Flow, files: Sequence[BatchFile], opened: Opened) -> str | None:  # noqa: ARG002
        """Return the SQL for the rows whose partition is of another date than theirs."""
        if (time := self.partitioning.time) is None:
            return None
        return table_rows.misplaced(self.select(flow, (), opened), time)

    def holding(self, flow: Flow) -> Holding:
        """Return how much the table holds, and its newest version."""
        look = self.look(flow)
        return table_rows.holding(look) if look else Holding()

    def flaws(self, flow: Flow) -> Iterator[str]:
        """Yield each file that the log names and that is not there as the log says."""
        yield from table_rows.flaws(self.root(flow), self._files(flow, Moment()))

    def _files(self, flow: Flow, moment: Moment) -> Sequence[File]:
        if moment == Moment():
            look = self.look(flow)
            return look.files if look else ()
        table = self.table(flow)
        if table.exists():
            return table.live(table_rows.version_at(table, moment))
        if moment.version is not None or moment.time is not None:
            raise ConfigError(f"{flow.name}: there is no table yet, so it has no versions")
        return []


def _unfit(kind: Kind, column: str) -> str:
    """Return why totals cannot be kept in partitions by a column; else ""."""
    assert kind.running  # noqa: S101 - the caller knows
    if column not in kind.running.keys:
        return f"{quoted(column)} is not a key of {kind.name}"
    field = kind.feed.values[column]
    may_be_empty = field.type == "string" and not field.allowed and (field.length is None or field.length[0] < 1)
    return f"{column} may be empty, which is null in a partition; give it a length from 1 on" if may_be_empty else ""
