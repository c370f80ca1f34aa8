"""A PostgreSQL table that is kept fresh: open windows and sessions as they stand, marked final when they are.

Guarantee: exactly once. A batch's rows and a marker (sink, query, batch, offsets) are one transaction, so a batch that
is run again after its commit finds its marker and changes nothing. A query that is begun anew, after a reset, begins
with an empty table; one whose marker has gone, with its database, is refused, and so is a table that has no marker:
someone else's. Of two services on one database the one that began first is refused once the other has taken over. The
connection is opened where the rows are, by the one task that a transaction can have.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import LiteralString, cast

import pyarrow as pa
from psycopg import sql
from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from stream_app.admission.ownership import reset_command
from stream_app.errors import ConfigError
from stream_app.failpoints import reach
from stream_app.feeds.types import of_spark
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.settings import Settings
from stream_app.sinks.late import write_late
from stream_app.sinks.postgres_connection import Connection, connect, connected
from stream_app.sinks.postgres_identity import KEY, Identity, digest, listed, looks_alike, storable
from stream_app.sinks.protocol import LATE, Report
from stream_app.storage.filesystem import Hadoop

FINAL = "final"
_BEFORE_ALL = -1
_LOCK_TIMEOUT = sql.SQL("SET LOCAL lock_timeout = '5s'")
_MARKERS = sql.SQL(
    "CREATE TABLE IF NOT EXISTS stream_app_batches "
    "(sink text PRIMARY KEY, query_id text NOT NULL, batch_id bigint NOT NULL, offsets jsonb NOT NULL)"
)


@dataclass(frozen=True)
class Upsert:
    """A micro-batch of a table: what the task that writes it needs to know."""

    sink: str
    table: str
    columns: tuple[str, ...]
    identity: Identity
    is_replaced: bool
    """Whether all rows of a key that are not final make way for those that come, as sessions do."""
    query_id: str
    batch: Batch

    @classmethod
    def of(cls, flow: Flow, columns: Sequence[str], batch: Batch) -> Upsert:
        """Return what is to be done for a batch of the flow, whose rows have those columns."""
        query_id, replaced = flow.checkpoint.query_id() or "", not flow.is_windowed
        return cls(flow.name, flow.table, tuple(columns), Identity.of(flow), replaced, query_id, batch)

    def run(self, connection: Connection, rows: Iterable[Sequence[object]]) -> None:
        """One transaction, by the caller: nothing if the marker shows that it was done before."""
        found = connection.execute(
            "SELECT query_id, batch_id FROM stream_app_batches WHERE sink = %s FOR UPDATE", [self.sink]
        ).fetchone()
        if not found or found[0] != self.query_id:
            problem = f"the table {self.table} was taken over by another query than that of {self.sink}"
            raise ConfigError(f"{problem}; does a second service write to the database at DATABASE_URL?")
        if found[1] >= self.batch.id:
            return
        self._upsert(connection, rows)
        _mark(connection, self.sink, self.query_id, self.batch.id, self.batch.end.as_json())

    def _upsert(self, connection: Connection, rows: Iterable[Sequence[object]]) -> None:
        table, columns = sql.Identifier(self.table), listed((*self.columns, KEY))
        # a name that no table of a feed has, which would be hidden by it
        incoming = "CREATE TEMP TABLE _incoming ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA"
        connection.execute(sql.SQL(incoming).format(columns, table))
        if self._copy(connection, rows, columns):
            opened = () if self.is_replaced else (self.identity.opened,)
            self._make_way(connection, (*opened, *self.identity.keys), "t.{} IS NULL")
        if self.is_replaced:
            self._make_way(connection, (KEY,))
        changed = [column for column in self.columns if column not in {self.identity.opened, *self.identity.keys}]
        updates = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(c)) for c in changed)
        unique = listed(self.identity.unique)
        # A session that became final in the batch that changed it comes twice, the second time as final.
        latest = sql.SQL("SELECT DISTINCT ON ({}) {} FROM _incoming ORDER BY {}").format(unique, columns, unique)
        if self.is_replaced:
            latest += sql.SQL(", {} DESC").format(sql.Identifier(FINAL))
        # the alias is for a table that is called excluded
        upsert = "INSERT INTO {} AS t ({}) {} ON CONFLICT ({}) DO UPDATE SET {}"
        connection.execute(sql.SQL(upsert).format(table, columns, latest, unique, updates))
        if not self.is_replaced and self.batch.watermark_ms:
            passed = sql.SQL("UPDATE {0} SET {1} = true WHERE NOT {1} AND {2} <= to_timestamp(%s / 1000.0)")
            names = table, sql.Identifier(FINAL), sql.Identifier("window_end")
            connection.execute(passed.format(*names), [self.batch.watermark_ms])

    def _copy(self, connection: Connection, rows: Iterable[Sequence[object]], columns: sql.Composed) -> bool:
        """Bring the rows to the server; return whether one may look like a row of other keys."""
        places = [self.columns.index(key) for key in self.identity.keys]
        alike = False
        with connection.cursor().copy(sql.SQL("COPY _incoming ({}) FROM STDIN").format(columns)) as copy:
            for row in rows:
                keys = [cast("str | None", row[place]) for place in places]
                alike = alike or looks_alike(keys)
                copy.write_row([*map(storable, row), digest(keys)])
        return alike

    def _make_way(self, connection: Connection, same: Sequence[str], where: LiteralString = "true") -> None:
        """Delete rows that are not final and equal an incoming one in those columns."""
        equal = sql.SQL(" AND ").join(sql.SQL("t.{0} = i.{0}").format(sql.Identifier(column)) for column in same)
        delete = sql.SQL("DELETE FROM {} t USING _incoming i WHERE NOT t.{} AND {} AND {}")
        condition = sql.SQL(where).format(sql.Identifier(KEY))
        names = sql.Identifier(self.table), sql.Identifier(FINAL)
        connection.execute(delete.format(*names, equal, condition))


def _mark(connection: Connection, sink: str, query_id: str, batch_id: int, end: object) -> None:
    connection.execute(
        "INSERT INTO stream_app_batches VALUES (%s, %s, %s, %s) ON CONFLICT (sink) DO UPDATE "
        "SET query_id = excluded.query_id, batch_id = excluded.batch_id, offsets = excluded.offsets",
        [sink, query_id, batch_id, json.dumps(end)],
    )


def prepare(flow: Flow, settings: Settings, columns: StructType) -> None:
    """Create the table for a query that begins, or check that it is that of one that goes on.

    Raises UnavailableError where no database answers, or someone holds the table for long; ConfigError where it and the
    checkpoint have not the same batches, or a table of that name is not ours.
    """
    table = sql.Identifier(flow.table)
    with connected(flow, settings) as connection:
        connection.execute(_MARKERS)
        found = connection.execute("SELECT to_regclass(%s)", [table.as_string(connection)]).fetchone()
        exists = found is not None and found[0] is not None
        marker = connection.execute(
            "SELECT query_id, batch_id FROM stream_app_batches WHERE sink = %s", [flow.name]
        ).fetchone()
        own = marker if exists and marker and marker[0] == flow.checkpoint.query_id() else None
        committed, planned = flow.checkpoint.last_committed(), flow.checkpoint.last_planned()
        problem = ""
        if committed and (own is None or own[1] < committed.batch_id):
            problem = f"the database at DATABASE_URL lacks batches of {flow.name} that its checkpoint has"
        elif own and own[1] > (planned.batch_id if planned else _BEFORE_ALL):
            problem = f"the database at DATABASE_URL has batches of {flow.name} that its checkpoint lacks"
        if problem:
            raise ConfigError(f"{problem}; reset it with: {reset_command(flow)}")
        # it would wait for a reader's transaction for as long as that is open, and other readers would wait for it
        connection.execute(_LOCK_TIMEOUT)
        if own:
            Identity.of(flow).migrate(connection, flow.name, flow.table)
            return
        if exists and not marker:
            problem = f"the database at DATABASE_URL has a table {flow.table} that {flow.name} has not made"
            raise ConfigError(f"{problem}; rename or drop it, or name another database")
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
        _create(flow, connection, columns)
        _mark(connection, flow.name, flow.checkpoint.query_id() or "", _BEFORE_ALL, {})


def _create(flow: Flow, connection: Connection, columns: StructType) -> None:
    table = sql.Identifier(flow.table)
    kinds = {column.name: of_spark(column.dataType.jsonValue()).postgres for column in columns}
    declared = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in kinds.items()]
    if flow.is_windowed:
        declared.append(sql.SQL("{} boolean NOT NULL DEFAULT false").format(sql.Identifier(FINAL)))
    declared.append(sql.SQL("{} bytea").format(sql.Identifier(KEY)))
    connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table, sql.SQL(", ").join(declared)))
    connection.execute(Identity.of(flow).index(flow.table))
    # each batch looks at what is not final, which is little of what the table comes to hold
    opened = "window_end" if flow.is_windowed else "session_start"
    index = sql.SQL("CREATE INDEX ON {} ({}) WHERE NOT {}")
    connection.execute(index.format(table, sql.Identifier(opened), sql.Identifier(FINAL)))


def upsert(flow: Flow, hadoop: Hadoop, settings: Settings, batch: Batch, frame: DataFrame) -> Report:
    """Bring the table up to date with the rows that the batch changed, after its late rows are kept."""
    late = write_late(flow, hadoop, batch)
    url, name = settings.database_url.get_secret_value(), flow.name
    work, batch_id = Upsert.of(flow, frame.columns, batch), batch.id
    reach(name, "before_staging", batch_id)

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # all of them, even if they are not needed: the query's state is committed by reading to the end
        rows = [row for records in batches for row in zip(*(column.to_pylist() for column in records), strict=True)]
        with connect(url) as connection:
            work.run(connection, rows)
            reach(name, "staged", batch_id)
        reach(name, "renamed", batch_id)
        yield pa.RecordBatch.from_pydict({"rows": [len(rows)]})

    (counted,) = frame.coalesce(1).mapInArrow(task, "rows long").collect()
    reach(name, "before_commit", batch_id)
    return Report(batch_id, batch.rows_in, counted.rows, counters={LATE: late})
