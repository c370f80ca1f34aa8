"""What identifies a row of a table: when its window or session began, and SHA-256 of its keys' own bytes.

The digest is in a column that no feed can declare. PostgreSQL's indexes hold no long texts, and of MD5 anyone can make
two texts with one digest. It is made before a NUL is replaced: rows whose keys only look alike in the table stay two.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import LiteralString

from psycopg import sql

from stream_app import logs
from stream_app.layers.aggregate import FINAL, Stateful
from stream_app.sinks.postgres_connection import Connection

KEY = "_key"
"""The column with the digest, the last of its table; `make query` and the audit leave it out."""

REPLACEMENT = "\ufffd"
_LENGTH = struct.Struct(">q")
# What `digest` does, in SQL.
_PART: LiteralString = "coalesce(int8send(octet_length({0})) || convert_to({0}, 'UTF8'), int8send(-1))"
_HAS_COLUMN: LiteralString = "SELECT 1 FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s"
_UNIQUE_BY: LiteralString = (
    "SELECT nspname, relname FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_namespace n "
    "ON n.oid = relnamespace WHERE indrelid = %s::regclass AND indisunique AND ARRAY("
    "SELECT pg_get_indexdef(indexrelid, part, false) FROM generate_series(1, indnatts) part) = %s"
)


def digest(keys: Iterable[object]) -> bytes:
    """Return what identifies these keys: each with its length before it, so that none runs into the next.

    A key is what a task reads of its column: all values of one column have one form.
    """
    whole = sha256()
    for key in keys:
        content = b"" if key is None else key if isinstance(key, bytes) else str(key).encode()
        whole.update(_LENGTH.pack(-1 if key is None else len(content)) + content)
    return whole.digest()


def storable(value: object) -> object:
    """Return the value as PostgreSQL holds it: its texts have no NUL."""
    return value.replace("\0", REPLACEMENT) if isinstance(value, str) else value


def looks_alike(keys: Iterable[object]) -> bool:
    """Return whether other keys may look the same in the table."""
    return any(isinstance(key, str) and ("\0" in key or REPLACEMENT in key) for key in keys)


@dataclass(frozen=True)
class Identity:
    """Which columns tell the rows of one table apart."""

    opened: str
    """When the window or the session began."""
    keys: tuple[str, ...]
    unique: tuple[str, str]
    """The columns of the index."""

    @classmethod
    def of(cls, stateful: Stateful) -> Identity:
        """Return that of a table of windows or sessions.

        New windows come in order; sessions, which replace open ones, are looked for by their keys alone.
        """
        unique = (KEY, stateful.opened) if stateful.replaces_open else (stateful.opened, KEY)
        return cls(stateful.opened, stateful.keys, unique)

    def index(self, table: str) -> sql.Composed:
        """Return the SQL that makes the index."""
        return sql.SQL("CREATE UNIQUE INDEX ON {} ({})").format(sql.Identifier(table), listed(self.unique))

    def migrate(self, connection: Connection, name: str, table: str) -> None:
        """Give a table the column if commit c6c8daf made it, which told its rows apart by MD5; `name` is the query's.

        In the caller's transaction. All rows stay as they are; what had been merged cannot be divided any more.
        """
        quoted = sql.Identifier(table)
        regclass = quoted.as_string(connection)
        if connection.execute(_HAS_COLUMN, [regclass, KEY]).fetchone():
            return
        began = time.monotonic()
        for old in connection.execute(_UNIQUE_BY, [regclass, self._by_md5(connection)]).fetchall():
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(*old)))
        connection.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {} bytea").format(quoted, sql.Identifier(KEY)))
        # writes each row once; an UPDATE would leave the old ones behind
        fill = sql.SQL("ALTER TABLE {} ALTER COLUMN {} TYPE bytea USING {}")
        connection.execute(fill.format(quoted, sql.Identifier(KEY), self._stored_digest()))
        connection.execute(self.index(table))
        seconds = round(time.monotonic() - began, 1)
        logs.info(f"{name} tells the rows of its table apart by SHA-256 from now on", table=table, seconds=seconds)

    def _stored_digest(self) -> sql.Composed:
        """Return the SQL for the digest of stored keys, NULL where those of an open row may have had a NUL.

        Such a row makes way for the next one that looks the same, which brings the digest.
        """
        keys = [sql.Identifier(key) for key in self.keys]
        parts = sql.SQL(" || ").join([sql.SQL("''::bytea"), *(sql.SQL(_PART).format(key) for key in keys)])
        alike = sql.SQL(" OR ").join(
            [sql.SQL("false"), *(sql.SQL("strpos({}, {}) > 0").format(key, sql.Literal(REPLACEMENT)) for key in keys)]
        )
        whole = "CASE WHEN NOT {} AND ({}) THEN NULL ELSE sha256({}) END"
        return sql.SQL(whole).format(sql.Identifier(FINAL), alike, parts)

    def _by_md5(self, connection: Connection) -> list[str]:
        """Return the parts of the old index, as PostgreSQL shows them."""
        digests = connection.execute(
            "SELECT coalesce(array_agg('md5(' || quote_ident(key) || ')' ORDER BY place), '{}') "
            "FROM unnest(%s::text[]) WITH ORDINALITY AS keys (key, place)",
            [list(self.keys)],
        ).fetchone()
        md5 = list(digests[0]) if digests else []
        return [self.opened, *md5] if self.unique[0] == self.opened else [*md5, self.opened]


def make_incoming(connection: Connection, table: str, columns: Sequence[str]) -> None:
    """Make the table _incoming, for rows of a batch with those columns; it goes with the transaction."""
    # a name that no table of a feed has, which would be hidden by it
    incoming = "CREATE TEMP TABLE _incoming ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA"
    connection.execute(sql.SQL(incoming).format(listed(columns), sql.Identifier(table)))


def listed(names: Sequence[str]) -> sql.Composed:
    """Return the names with commas."""
    return sql.SQL(", ").join(map(sql.Identifier, names))
