"""A table gets the columns that its dataset has grown by: ALTER TABLE, in the transaction of the start.

What the table has is asked of PostgreSQL, so a start that was cut short is simply done again.
"""

from __future__ import annotations

import time
from typing import LiteralString

from psycopg import errors, sql
from pyspark.sql.types import StructType

from stream_app import logs
from stream_app.errors import ConfigError
from stream_app.feeds.schema import types_of
from stream_app.sinks.postgres_connection import Connection

_COLUMNS = (
    "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
    "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
)
_WIDER = {("integer", "bigint"), ("real", "double precision")}


def kinds_of(columns: StructType) -> dict[str, LiteralString]:
    """Return the columns with PostgreSQL's types."""
    return {column: one.postgres for column, one in types_of(columns).items()}


def grow(connection: Connection, name: str, table: str, columns: StructType) -> None:
    """Add the columns that the table lacks, and widen narrower ones.

    Rows that are there have null in a new column. For a wider type PostgreSQL writes the table again. `name` is the
    query's. Raises ConfigError where something that others have made of a column, as a view, keeps it as it is.
    """
    identifier = sql.Identifier(table)
    held: dict[str, str] = dict(connection.execute(_COLUMNS, [identifier.as_string(connection)]).fetchall())
    for column, kind in kinds_of(columns).items():
        if column not in held:
            words: LiteralString = "ALTER TABLE {} ADD COLUMN {} {}"
        elif _is_wider(held[column], kind):
            words = "ALTER TABLE {} ALTER COLUMN {} TYPE {}"
        else:
            continue
        began = time.monotonic()
        change = sql.SQL(words).format(identifier, sql.Identifier(column), sql.SQL(kind))
        try:
            connection.execute(change)
        except errors.FeatureNotSupported as error:
            problem = f"{name}: PostgreSQL cannot make {table}.{column} {kind}: {' '.join(str(error).split())}"
            raise ConfigError(f"{problem}; drop what uses the column, start, and make it again") from None
        logs.info(f"{name}: {table}.{column} is {kind} from now on", seconds=round(time.monotonic() - began, 1))


def _is_wider(held: str, kind: str) -> bool:
    are_decimals = held.startswith("numeric(") and kind.startswith("numeric(")
    return (held, kind) in _WIDER or (are_decimals and held != kind)
