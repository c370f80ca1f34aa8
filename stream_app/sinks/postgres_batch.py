"""One micro-batch of a PostgreSQL table: its rows and its marker are one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import LiteralString, Protocol

import pyarrow as pa
from psycopg import sql

from stream_app.errors import ConfigError
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.sinks.postgres_connection import Connection, flush_at_commit

MARKER_TABLE = "stream_app_batches"
MARKERS = sql.SQL(
    "CREATE TABLE IF NOT EXISTS stream_app_batches "
    "(sink text PRIMARY KEY, query_id text NOT NULL, batch_id bigint NOT NULL, offsets jsonb NOT NULL)"
)


class Changes(Protocol):
    """What a batch does to a table: postgres_fresh.py, postgres_keyed.py and postgres_appended.py have one each."""

    @property
    def reads_all(self) -> bool:
        """Whether the rows must be read even if the batch was written before."""

    def added_columns(self) -> dict[str, LiteralString]:
        """Return the table's columns beside those of the rows, with their types."""

    def indexes(self) -> list[sql.Composed]:
        """Return the SQL that makes the table's indexes."""

    def migrate(self, connection: Connection, name: str) -> None:
        """Make a table of an older version what this one makes; `name` is the query's."""

    def apply(self, connection: Connection, batches: Iterator[pa.RecordBatch], batch: Batch) -> int:
        """Write the rows of a batch, in the caller's transaction; return how many there are."""


@dataclass(frozen=True)
class Work:
    """A micro-batch of a table: what the task that writes it needs to know."""

    sink: str
    table: str
    query_id: str
    batch: Batch
    changes: Changes

    @classmethod
    def of(cls, flow: Flow, table: str, changes: Changes, batch: Batch) -> Work:
        """Return what is to be done for a batch of the flow."""
        return cls(flow.name, table, flow.checkpoint.query_id() or "", batch, changes)

    def run(self, connection: Connection, rows: Iterator[pa.RecordBatch]) -> int:
        """Do it in one transaction, the caller's, unless the marker shows that it was done; return the rows written."""
        flush_at_commit(connection)
        found = connection.execute(
            "SELECT query_id, batch_id FROM stream_app_batches WHERE sink = %s FOR UPDATE", [self.sink]
        ).fetchone()
        if not found or found[0] != self.query_id:
            problem = f"the table {self.table} was taken over by another query than that of {self.sink}"
            raise ConfigError(f"{problem}; does a second service write to the database at DATABASE_URL?")
        if found[1] >= self.batch.id:
            return sum(records.num_rows for records in rows)
        written = self.changes.apply(connection, rows, self.batch)
        mark(connection, self.sink, self.query_id, self.batch.id, self.batch.end.as_json())
        return written


def mark(connection: Connection, sink: str, query_id: str, batch_id: int, end: object) -> None:
    """Write the marker: the newest batch of the sink that its table has, and up to where that reads."""
    connection.execute(
        "INSERT INTO stream_app_batches VALUES (%s, %s, %s, %s) ON CONFLICT (sink) DO UPDATE "
        "SET query_id = excluded.query_id, batch_id = excluded.batch_id, offsets = excluded.offsets",
        [sink, query_id, batch_id, json.dumps(end)],
    )
