"""A table whose rows any batch may change: totals, each by its keys, or the first of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, LiteralString

import pyarrow as pa
from psycopg import sql

from stream_app.flows.batch import Batch
from stream_app.layers.aggregate import Running
from stream_app.sinks.postgres_connection import Connection
from stream_app.sinks.postgres_identity import KEY, digest, listed, make_incoming, storable


@dataclass(frozen=True)
class KeyedRows:
    """How the totals that a batch has changed become those of a table."""

    table: str
    columns: tuple[str, ...]
    """Those of the rows."""
    keys: tuple[str, ...]
    texts: frozenset[str]
    """The columns that are compared by their bytes, whatever the database's language."""
    ranks: tuple[tuple[str, bool], ...]
    most: int | None

    reads_all: ClassVar[bool] = True
    """The state of the query is committed by reading its rows to the end, even if they are not needed."""

    @classmethod
    def of(cls, table: str, columns: Sequence[str], running: Running) -> KeyedRows:
        """Return how rows with those columns become that table's."""
        texts = frozenset(name for name, kind in running.sql_columns.items() if kind == "VARCHAR")
        return cls(table, tuple(columns), running.keys, texts, running.ranks, running.most)

    def added_columns(self) -> dict[str, LiteralString]:
        """Return the table's column beside those of the rows, with its type."""
        return {KEY: "bytea"}

    def indexes(self) -> list[sql.Composed]:
        """Return the SQL that makes the table's index."""
        return [sql.SQL("CREATE UNIQUE INDEX ON {} ({})").format(sql.Identifier(self.table), sql.Identifier(KEY))]

    def migrate(self, connection: Connection, name: str) -> None:
        """Do nothing: no older version made such a table."""

    def apply(self, connection: Connection, batches: Iterator[pa.RecordBatch], batch: Batch) -> int:  # noqa: ARG002
        """Have the rows of a batch take the place of those with their keys; return how many these are."""
        table, columns = sql.Identifier(self.table), listed((*self.columns, KEY))
        make_incoming(connection, self.table, (*self.columns, KEY))
        rows = self._copy(connection, batches, columns)
        updates = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(c)) for c in self.columns)
        # the alias is for a table that is called excluded
        upsert = sql.SQL("INSERT INTO {} AS t ({}) SELECT {} FROM _incoming ON CONFLICT ({}) DO UPDATE SET {}")
        connection.execute(upsert.format(table, columns, columns, sql.Identifier(KEY), updates))
        if self.most:
            rest = sql.SQL("DELETE FROM {0} WHERE {1} IN (SELECT {1} FROM {0} ORDER BY {2} OFFSET {3})")
            connection.execute(rest.format(table, sql.Identifier(KEY), self._order(), sql.Literal(self.most)))
        return rows

    def _copy(self, connection: Connection, batches: Iterator[pa.RecordBatch], columns: sql.Composed) -> int:
        """Bring the rows to the server; return how many these are."""
        places, count = [self.columns.index(key) for key in self.keys], 0
        with connection.cursor().copy(sql.SQL("COPY _incoming ({}) FROM STDIN").format(columns)) as copy:
            for records in batches:
                for row in zip(*(column.to_pylist() for column in records.columns), strict=True):
                    copy.write_row([*map(storable, row), digest([row[place] for place in places])])
                count += records.num_rows
        return count

    def _order(self) -> sql.Composed:
        parts = []
        for column, falls in self.ranks:
            collated = sql.SQL(' COLLATE "C"' if column in self.texts else "")
            direction = sql.SQL("DESC" if falls else "ASC")
            parts.append(sql.SQL("{}{} {} NULLS LAST").format(sql.Identifier(column), collated, direction))
        return sql.SQL(", ").join(parts)
