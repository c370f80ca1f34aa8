"""A PostgreSQL table: windows and sessions kept fresh, totals by key, rows of records appended once.

Guarantee: exactly once. A batch's rows and a marker (sink, query, batch, offsets) are one transaction, so a batch that
is run again after its commit finds its marker and changes nothing. A query begins with an empty table, also after a
reset. A query whose marker has gone, with its database, is refused. So is a table without a marker: it is someone
else's. Of two services on one database the one that began first is refused once the other has taken over. The
connection is opened where the rows are, by the one task that a transaction can have.

Windows, sessions and totals have a query of their own over silver, whose rows are in the table as they are by now.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import duckdb
import pyarrow as pa
from psycopg import sql
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from stream_app.admission.verdict import reset_command
from stream_app.errors import ConfigError
from stream_app.failpoints import reach
from stream_app.feeds.parts import ColumnName
from stream_app.feeds.types import Type, scalar
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.layers.aggregate import FINAL
from stream_app.layers.kind import Kind
from stream_app.layers.origin import Origins
from stream_app.settings import Servers
from stream_app.sinks import nested_sql
from stream_app.sinks.late import write_late
from stream_app.sinks.postgres_appended import AppendedRows
from stream_app.sinks.postgres_batch import MARKER_TABLE, MARKERS, Changes, Work, mark
from stream_app.sinks.postgres_connection import Connection, connect, connected, database_named, flush_at_commit
from stream_app.sinks.postgres_copy import copy_table
from stream_app.sinks.postgres_fresh import FreshRows
from stream_app.sinks.postgres_growth import grow, kinds_of
from stream_app.sinks.postgres_keyed import KeyedRows
from stream_app.sinks.protocol import Guarantee, Sink, Tools, Writer
from stream_app.sinks.report import LATE, Report
from stream_app.sources.split_rows import Batches, Rows
from stream_app.storage.offsets import LayerOffset

_BEFORE_ALL = -1
_LOCK_TIMEOUT = sql.SQL("SET LOCAL lock_timeout = '5s'")
# What each table has beside its own columns (PostgreSQL's manual, "System Columns").
_SYSTEM = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})


class PostgresSink(Sink):
    """The dataset as a PostgreSQL table: windows and sessions fresh, totals by key, rows of records once each."""

    to: Literal["postgres"]
    """The kind of sink."""
    table: ColumnName
    """The table in the database at DATABASE_URL. No two sinks have the same one."""

    guarantee: ClassVar[Guarantee] = Guarantee.EXACTLY_ONCE
    needs_database: ClassVar[bool] = True
    keeps_by_key: ClassVar[bool] = True
    is_copied: ClassVar[bool] = True

    def problems(self, kind: Kind) -> Iterator[tuple[str, str]]:
        """Yield a name or a column that PostgreSQL has itself, and rows that nothing tells apart."""
        if self.table == MARKER_TABLE:
            yield "table", f"the service keeps what it has written in a table {self.table}"
        if self.table.startswith("pg_"):
            yield "table", f"PostgreSQL keeps names that begin with pg_ to itself, as {self.table}"
        for column in kind.columns.names:
            if column in _SYSTEM:
                yield "of", f"cannot have the column {column} of {kind.name}: PostgreSQL keeps one in each table"
            elif column == FINAL and kind.stateful:
                yield "of", f"has a column {FINAL} already, whether a row is final; {kind.name} has one, too: rename it"
        if not self.derives(kind) and not kind.has_places:
            yield "of", f"nothing tells the rows of {kind.name} apart"

    def reader_columns(self, kind: Kind) -> dict[str, tuple[Type, Origins]]:
        """Return the dataset's columns, and of windows and sessions whether a row is final."""
        final: dict[str, tuple[Type, Origins]] = {FINAL: (scalar("boolean"), ())} if kind.stateful else {}
        return super().reader_columns(kind) | final

    def derives(self, kind: Kind) -> bool:
        """Return whether a query of the sink's own shows rows that may change yet."""
        return kind.aggregate is not None

    @property
    def claims(self) -> frozenset[str]:
        """The table."""
        return frozenset({f"the table {self.table}"})

    def place(self, flow: Flow) -> str:  # noqa: ARG002 - of every flow
        """Return the table."""
        return f"PostgreSQL's {self.table}"

    def qualified_name(self, flow: Flow, servers: Servers) -> tuple[str, str]:  # noqa: ARG002 - of every flow
        """Return the table in its database."""
        namespace, database = database_named(servers.database_url)
        return namespace, f"{database}.public.{self.table}"

    def copy_into(self, connection: duckdb.DuckDBPyConnection, flow: Flow, servers: Servers) -> LayerOffset:
        """Copy the table as it is. Raises StreamAppError, one line that says why it cannot be read."""
        return copy_table(connection, flow, self.table, servers.database_url)

    def compared(self, kind: Kind) -> tuple[str, str]:
        """Return the columns as PostgreSQL holds them: no text has a NUL."""
        return nested_sql.compared(to_arrow_schema(kind.columns, timezone="UTC"))

    def changes(self, kind: Kind, columns: Sequence[str]) -> Changes:
        """Return how rows with those columns become the table's."""
        if kind.running:
            return KeyedRows.of(self.table, columns, kind.running)
        return FreshRows.of(self.table, columns, kind.stateful) if kind.stateful else AppendedRows(self.table)

    def writer(self, flow: Flow, rows: Rows | None, tools: Tools) -> Writer:
        """Return what writes the table in one task."""
        return _TableWriter(flow, self, rows, tools)


class _TableWriter:
    def __init__(self, flow: Flow, declared: PostgresSink, rows: Rows | None, tools: Tools) -> None:
        self._flow = flow
        self._declared = declared
        self._rows = rows
        self._tools = tools

    def prepare(self, columns: StructType) -> None:
        """Create the table for a query that begins, or check that it is that of one that goes on, and let it grow.

        Raises UnavailableError where no database answers, or someone holds the table for long; ConfigError where it
        and the checkpoint have not the same batches, or a table of that name is not ours.
        """
        flow, table = self._flow, self._declared.table
        changes, identifier = self._declared.changes(flow.kind, columns.names), sql.Identifier(table)
        with connected(flow, self._tools.servers.database_url) as connection:
            flush_at_commit(connection)
            connection.execute(MARKERS)
            found = connection.execute("SELECT to_regclass(%s)", [identifier.as_string(connection)]).fetchone()
            exists = found is not None and found[0] is not None
            marker = connection.execute(
                "SELECT query_id, batch_id FROM stream_app_batches WHERE sink = %s", [flow.name]
            ).fetchone()
            own = marker if exists and marker and marker[0] == flow.checkpoint.query_id() else None
            _check(flow, own[1] if own else None)
            # it would wait for a reader's transaction for as long as that is open, and other readers would wait for it
            connection.execute(_LOCK_TIMEOUT)
            if own:
                changes.migrate(connection, flow.name)
                grow(connection, flow.name, table, columns)
                return
            if exists and not marker:
                problem = f"the database at DATABASE_URL has a table {table} that {flow.name} has not made"
                raise ConfigError(f"{problem}; rename or drop it, or name another database")
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(identifier))
            _create(connection, table, columns, changes)
            mark(connection, flow.name, flow.checkpoint.query_id() or "", _BEFORE_ALL, {})

    def write(self, batch: Batch, frame: DataFrame) -> Report:
        """Bring the table up to date with the rows of the batch, after its late rows are kept."""
        flow, rows = self._flow, self._rows
        late = {LATE: write_late(flow, self._tools.hadoop, batch)} if flow.stateful else {}
        url, name, batch_id = self._tools.servers.database_url.get_secret_value(), flow.name, batch.id
        declared = self._declared
        work = Work.of(flow, declared.table, declared.changes(flow.kind, frame.columns), batch)
        reach(name, "before_staging", batch_id)

        def task(batches: Batches) -> Batches:
            found = rows.read(batches) if rows else batches
            if work.changes.reads_all:
                found = iter(list(found))
            with connect(url) as connection:
                written = work.run(connection, found)
                reach(name, "staged", batch_id)
            reach(name, "renamed", batch_id)
            yield pa.RecordBatch.from_pydict({"rows": [written]})

        (counted,) = frame.coalesce(1).mapInArrow(task, "rows long").collect()
        reach(name, "before_commit", batch_id)
        return Report(batch_id, batch.rows_in, counted.rows, counters=late)


def _check(flow: Flow, written: int | None) -> None:
    """Raise ConfigError where the table, written up to that batch, and the checkpoint have not the same batches."""
    committed, planned, problem = flow.checkpoint.last_committed(), flow.checkpoint.last_planned(), ""
    if committed and (written is None or written < committed.batch_id):
        problem = f"the database at DATABASE_URL lacks batches of {flow.name} that its checkpoint has"
    elif written is not None and written > (planned.batch_id if planned else _BEFORE_ALL):
        problem = f"the database at DATABASE_URL has batches of {flow.name} that its checkpoint lacks"
    if problem:
        raise ConfigError(f"{problem}; reset it with: {reset_command(flow)}")


def _create(connection: Connection, table: str, columns: StructType, changes: Changes) -> None:
    kinds = (kinds_of(columns) | changes.added_columns()).items()
    declared = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in kinds]
    connection.execute(sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(table), sql.SQL(", ").join(declared)))
    for index in changes.indexes():
        connection.execute(index)
