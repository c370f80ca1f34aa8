"""Rows that a query found, as a value: whoever has them needs neither the files nor the connection any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from stream_app.ops.views import database

_AT_ONCE = 10_000


@dataclass(frozen=True)
class Rows:
    """The first rows that a query found; `is_all` says whether there are no more."""

    table: pa.Table
    """As DuckDB writes them without loss: what Arrow has no type for, as 128-bit integers, is in an extension type."""
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
    table = with_types(pa.Table.from_batches(batches, reader.schema), _own)
    return Rows(table, is_all=limit is None or held <= limit)


def with_types(table: pa.Table, change: Callable[[pa.DataType], pa.DataType]) -> pa.Table:
    """Return the rows with their types changed, those inside of others, too."""
    return table.cast(pa.schema([field.with_type(_changed(field.type, change)) for field in table.schema]))


def _changed(kind: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_changed(kind.value_type, change)))
    if pa.types.is_map(kind):
        return pa.map_(kind.key_field, kind.item_field.with_type(_changed(kind.item_type, change)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_changed(field.type, change)) for field in kind])
    return change(kind)


def _own(kind: pa.DataType) -> pa.DataType:
    """Return Arrow's own type for booleans: DuckDB has them as bytes, which some readers take for integers."""
    return pa.bool_() if isinstance(kind, pa.Bool8Type) else kind
