"""A table that is kept fresh: windows and sessions as they are by now, marked `final` once they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, LiteralString

import pyarrow as pa
from psycopg import sql

from stream_app.flows.batch import Batch
from stream_app.layers.aggregate import FINAL, Stateful
from stream_app.sinks.postgres_connection import Connection
from stream_app.sinks.postgres_identity import KEY, Identity, digest, listed, looks_alike, make_incoming, storable


@dataclass(frozen=True)
class FreshRows:
    """How the rows that a query with state has changed become those of its table."""

    table: str
    columns: tuple[str, ...]
    """Those of the rows."""
    identity: Identity
    is_replaced: bool
    """Whether all rows of a key that are not final make way for the rows that come, as sessions do."""

    reads_all: ClassVar[bool] = True
    """The state of the query is committed by reading its rows to the end, even if they are not needed."""

    @classmethod
    def of(cls, table: str, columns: Sequence[str], stateful: Stateful) -> FreshRows:
        """Return how rows with those columns become that table's."""
        return cls(table, tuple(columns), Identity.of(stateful), stateful.replaces_open)

    def added_columns(self) -> dict[str, LiteralString]:
        """Return the table's columns beside those of the rows, with their types."""
        final: dict[str, LiteralString] = {} if FINAL in self.columns else {FINAL: "boolean NOT NULL DEFAULT false"}
        return final | {KEY: "bytea"}

    def indexes(self) -> list[sql.Composed]:
        """Return the SQL that makes the table's indexes."""
        # each batch looks at what is not final, which is little of what the table comes to hold
        looked_for = self.identity.opened if self.is_replaced else "window_end"
        names = sql.Identifier(self.table), sql.Identifier(looked_for), sql.Identifier(FINAL)
        return [self.identity.index(self.table), sql.SQL("CREATE INDEX ON {} ({}) WHERE NOT {}").format(*names)]

    def migrate(self, connection: Connection, name: str) -> None:
        """Make a table of an older version what this one makes; `name` is the query's."""
        self.identity.migrate(connection, name, self.table)

    def apply(self, connection: Connection, batches: Iterator[pa.RecordBatch], batch: Batch) -> int:
        """Bring the table up to date with the rows that a batch changed; return how many these are."""
        rows = [row for records in batches for row in zip(*(c.to_pylist() for c in records.columns), strict=True)]
        self.upsert(connection, rows, batch.watermark_ms)
        return len(rows)

    def upsert(self, connection: Connection, rows: Iterable[Sequence[object]], watermark_ms: int) -> None:
        """Bring the table up to date with those rows, as of a watermark."""
        table, columns = sql.Identifier(self.table), listed((*self.columns, KEY))
        make_incoming(connection, self.table, (*self.columns, KEY))
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
        if not self.is_replaced and watermark_ms:
            passed = sql.SQL("UPDATE {0} SET {1} = true WHERE NOT {1} AND {2} <= to_timestamp(%s / 1000.0)")
            names = table, sql.Identifier(FINAL), sql.Identifier("window_end")
            connection.execute(passed.format(*names), [watermark_ms])

    def _copy(self, connection: Connection, rows: Iterable[Sequence[object]], columns: sql.Composed) -> bool:
        """Bring the rows to the server; return whether one may look like a row of other keys."""
        places = [self.columns.index(key) for key in self.identity.keys]
        alike = False
        with connection.cursor().copy(sql.SQL("COPY _incoming ({}) FROM STDIN").format(columns)) as copy:
            for row in rows:
                keys = [row[place] for place in places]
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
