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

import psycopg
import pyarrow as pa
from psycopg import sql
from pyspark.sql import DataFrame
from pyspark.sql.types import DecimalType, StringType, StructType

from stream_app.checkpoint import PlannedBatch
from stream_app.database import CONNECT_SECONDS, Connection, connected
from stream_app.errors import ConfigError
from stream_app.failpoints import reach
from stream_app.flow import Flow
from stream_app.ownership import reset_command
from stream_app.settings import Settings
from stream_app.sinks.batch import Written

FINAL = "final"
_BEFORE_ALL = -1
_LOCK_TIMEOUT = sql.SQL("SET LOCAL lock_timeout = '5s'")
_MARKERS = sql.SQL(
    "CREATE TABLE IF NOT EXISTS stream_app_batches "
    "(sink text PRIMARY KEY, query_id text NOT NULL, batch_id bigint NOT NULL, offsets jsonb NOT NULL)"
)
_TYPES = {
    "string": "text",
    "timestamp": "timestamptz",
    "bigint": "bigint",
    "int": "integer",
    "double": "double precision",
    "boolean": "boolean",
}


@dataclass(frozen=True)
class Batch:
    """A micro-batch of a table: what the task that writes it needs to know."""

    sink: str
    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    texts: frozenset[str]
    replaced: tuple[str, ...]
    """Rows that are not final and equal an incoming one in these columns make way for it."""
    query_id: str
    planned: PlannedBatch

    def run(self, connection: Connection, rows: Iterable[Sequence[object]]) -> None:
        """One transaction, by the caller: nothing if the marker shows that it was done before."""
        found = connection.execute(
            "SELECT query_id, batch_id FROM stream_app_batches WHERE sink = %s FOR UPDATE", [self.sink]
        ).fetchone()
        if not found or found[0] != self.query_id:
            problem = f"the table {self.table} was taken over by another query than that of {self.sink}"
            raise ConfigError(f"{problem}; does a second service write to the database at DATABASE_URL?")
        if found[1] >= self.planned.batch_id:
            return
        self._upsert(connection, rows)
        _mark(connection, self.sink, self.query_id, self.planned.batch_id, self.planned.end)

    def _upsert(self, connection: Connection, rows: Iterable[Sequence[object]]) -> None:
        table, columns, key = sql.Identifier(self.table), _list(self.columns), _list(self.key)
        unique = _unique(self.key, self.texts)
        incoming = "CREATE TEMP TABLE _incoming ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA"
        connection.execute(sql.SQL(incoming).format(columns, table))
        with connection.cursor().copy(sql.SQL("COPY _incoming ({}) FROM STDIN").format(columns)) as copy:
            for row in rows:
                copy.write_row([_storable(value) for value in row])
        if self.replaced:
            same = sql.SQL(" AND ").join(sql.SQL("t.{0} = i.{0}").format(sql.Identifier(c)) for c in self.replaced)
            replace = sql.SQL("DELETE FROM {} t USING _incoming i WHERE NOT t.final AND {}")
            connection.execute(replace.format(table, same))
        changed = [column for column in self.columns if column not in self.key]
        updates = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(c)) for c in changed)
        # A session that became final in the batch that changed it comes twice, the second time as final.
        latest = sql.SQL("SELECT DISTINCT ON ({}) {} FROM _incoming ORDER BY {}").format(key, columns, key)
        if self.replaced:
            latest += sql.SQL(", final DESC")
        upsert = "INSERT INTO {} AS t ({}) {} ON CONFLICT ({}) DO UPDATE SET {}"
        connection.execute(sql.SQL(upsert).format(table, columns, latest, unique, updates))
        if not self.replaced and self.planned.watermark_ms:
            passed = sql.SQL("UPDATE {} SET final = true WHERE NOT final AND window_end <= to_timestamp(%s / 1000.0)")
            connection.execute(passed.format(table), [self.planned.watermark_ms])


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
            raise ConfigError(f"{problem}; begin it anew with: {reset_command(flow)}")
        if own:
            return
        if exists and not marker:
            problem = f"the database at DATABASE_URL has a table {flow.table} that {flow.name} has not made"
            raise ConfigError(f"{problem}; rename or drop it, or name another database")
        # it would wait for a reader's transaction for as long as that is open, and other readers would wait for it
        connection.execute(_LOCK_TIMEOUT)
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
        _create(flow, connection, columns)
        _mark(connection, flow.name, flow.checkpoint.query_id() or "", _BEFORE_ALL, {})


def _create(flow: Flow, connection: Connection, columns: StructType) -> None:
    table = sql.Identifier(flow.table)
    listed = [sql.SQL("{} {}").format(sql.Identifier(c.name), sql.SQL(_column_type(c.dataType))) for c in columns]
    if flow.is_windowed:
        listed.append(sql.SQL("{} boolean NOT NULL DEFAULT false").format(sql.Identifier(FINAL)))
    connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table, sql.SQL(", ").join(listed)))
    unique = _unique(_key(flow), _texts(columns))
    connection.execute(sql.SQL("CREATE UNIQUE INDEX ON {} ({})").format(table, unique))
    # each batch looks at what is not final, which is little of what the table comes to hold
    opened = sql.Identifier("window_end" if flow.is_windowed else "session_start")
    connection.execute(sql.SQL("CREATE INDEX ON {} ({}) WHERE NOT final").format(table, opened))


def upsert(flow: Flow, settings: Settings, frame: DataFrame, batch_id: int) -> Written:
    """Bring the table up to date with the rows that the batch changed."""
    url, name = settings.database_url.get_secret_value(), flow.name
    replaced = () if flow.is_windowed else flow.session.keys
    query_id = flow.checkpoint.query_id() or ""
    planned = flow.checkpoint.planned(batch_id)
    columns, texts = tuple(frame.columns), _texts(frame.schema)
    batch = Batch(name, flow.table, columns, _key(flow), texts, replaced, query_id, planned)
    reach(name, "before_staging", batch_id)

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # all of them, even if they are not needed: the query's state is committed by reading to the end
        rows = [row for records in batches for row in zip(*(column.to_pylist() for column in records), strict=True)]
        with psycopg.connect(url, connect_timeout=CONNECT_SECONDS) as connection:
            batch.run(connection, rows)
            reach(name, "staged", batch_id)
        reach(name, "renamed", batch_id)
        yield pa.RecordBatch.from_pydict({"rows": [len(rows)]})

    (counted,) = frame.coalesce(1).mapInArrow(task, "rows long").collect()
    reach(name, "before_commit", batch_id)
    return Written(batch_id, counted.rows, None)


def _key(flow: Flow) -> tuple[str, ...]:
    return ("window_start", *flow.window.keys) if flow.is_windowed else (*flow.session.keys, "session_start")


def _texts(columns: StructType) -> frozenset[str]:
    return frozenset(column.name for column in columns if isinstance(column.dataType, StringType))


def _unique(key: Sequence[str], texts: frozenset[str]) -> sql.Composed:
    """What identifies a row, by digests of texts: an index holds no more than 2,704 bytes of a row."""
    parts = (sql.SQL("md5({})" if column in texts else "{}").format(sql.Identifier(column)) for column in key)
    return sql.SQL(", ").join(parts)


def _storable(value: object) -> object:
    """PostgreSQL's texts hold no NUL."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _column_type(kind: object) -> str:
    if isinstance(kind, DecimalType):
        return f"numeric({kind.precision},{kind.scale})"
    return _TYPES[kind.simpleString()]  # type: ignore[attr-defined]


def _list(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
