"""A table to which rows are appended, each once: a row is of one record, which its partition and offset tell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, LiteralString

import pyarrow as pa
from psycopg import sql

from stream_app.flows.batch import Batch
from stream_app.sinks import json_text
from stream_app.sinks.postgres_connection import Connection
from stream_app.sinks.postgres_identity import REPLACEMENT, listed, storable

_PLACE = ("partition", "offset")
# A NUL as JSON has it; an even number of backslashes before it are backslashes of the text.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


@dataclass(frozen=True)
class AppendedRows:
    """How rows become those of a table."""

    table: str

    reads_all: ClassVar[bool] = False

    def added_columns(self) -> dict[str, LiteralString]:
        """Return no columns beside those of the rows."""
        return {}

    def indexes(self) -> list[sql.Composed]:
        """Return the SQL that makes the table's index."""
        return [sql.SQL("CREATE UNIQUE INDEX ON {} ({})").format(sql.Identifier(self.table), listed(_PLACE))]

    def migrate(self, connection: Connection, name: str) -> None:
        """Do nothing: no older version made such a table."""

    def apply(self, connection: Connection, batches: Iterator[pa.RecordBatch], batch: Batch) -> int:  # noqa: ARG002
        """Append the rows of a batch; return how many these are."""
        rows = 0
        for records in batches:
            columns = listed(records.schema.names)
            into = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(self.table), columns)
            with connection.cursor().copy(into) as copy:
                for row in zip(*map(_values, records.columns), strict=True):
                    copy.write_row(row)
            rows += records.num_rows
        return rows


def _values(column: pa.Array) -> Sequence[object]:
    """Return the values as PostgreSQL holds them: nested ones as JSON, and no text with a NUL."""
    if not pa.types.is_nested(column.type):
        return [storable(value) for value in column.to_pylist()]
    texts = json_text.values(column).to_pylist()
    return [None if one is None else _NUL.sub(rf"\1{REPLACEMENT}", one) for one in texts]
