"""Rows that a query found, as a value: whoever has them needs neither the files nor the connection any more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from stream_app.ops.views import database

_AT_ONCE = 10_000


@dataclass(frozen=True)
class Rows:
    """The first rows that a query found; `is_all` says whether there are no more."""

    table: pa.Table
    """As DuckDB writes them without loss: what Arrow has no type for is in an extension type."""
    is_all: bool

    def relation(self) -> duckdb.DuckDBPyRelation:
        """Return the rows for DuckDB, in an empty database that shows times in UTC."""
        return database().from_arrow(self.table)

    def records(self) -> Iterator[dict[str, object]]:
        """Yield each row by its columns, as Python has their values."""
        relation = self.relation()
        columns = relation.columns
        while rows := relation.fetchmany(_AT_ONCE):
            yield from (dict(zip(columns, row, strict=True)) for row in rows)


def read(connection: duckdb.DuckDBPyConnection, found: duckdb.DuckDBPyRelation, limit: int | None = None) -> Rows:
    """Return the first `limit` rows of what was found by that connection; all of them without a limit."""
    connection.execute("SET arrow_lossless_conversion = true")
    reader, batches, held = found.to_arrow_reader(_AT_ONCE), list[pa.RecordBatch](), 0
    for batch in reader:
        room = batch.num_rows if limit is None else limit - held
        batches.append(batch.slice(0, room))
        held += batch.num_rows
        if batch.num_rows > room:
            break
    return Rows(pa.Table.from_batches(batches, reader.schema), is_all=limit is None or held <= limit)
