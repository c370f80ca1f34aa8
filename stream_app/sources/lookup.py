"""Reads reference data: a CSV, a Parquet file or a query of PostgreSQL becomes the rows of a snapshot."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from io import BytesIO
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq

from stream_app.errors import ConfigError, UnavailableError
from stream_app.feeds.feed import Feed
from stream_app.feeds.lookups import Lookup
from stream_app.feeds.parts import quoted
from stream_app.feeds.types import Type, scalar
from stream_app.storage.snapshots import KEY, sorted_by_key

_CONNECT_SECONDS = 5
_OPTIONS = "-c statement_timeout=60s -c default_transaction_read_only=on -c TimeZone=UTC -c DateStyle=ISO"
_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


@dataclass(frozen=True)
class Source:
    """Where the rows of a lookup come from."""

    name: str
    """As messages have it: lookups.clients of sales."""
    declared: Lookup
    key: Type
    """That of the fields that reference it."""
    folder: Path
    """That of the feed file, from which on a file's path is."""
    database_url: str = ""

    @classmethod
    def of(cls, feed: Feed, lookup: str, folder: Path, database_url: str = "") -> Source:
        """Return that of a lookup of the feed."""
        (key, *_) = (feed.fields[column].as_type for column, name in feed.references.items() if name == lookup)
        return cls(f"lookups.{lookup} of {feed.name}", feed.lookups[lookup], key, folder, database_url)

    def read(self) -> pa.Table:
        """Return the rows that are there now: KEY and the declared columns, as a snapshot has them.

        Raises ConfigError, one line, where a file is missing or no table, or a column is missing. Also where a value is
        none of its type, or a key is missing or twice. Raises UnavailableError where no database answers in time.
        """
        return self.typed(self._queried() if self.declared.query else self._file())

    def of_file(self, path: Path) -> pa.Table:
        """Return the same of that file, as of an example of the feed."""
        return self.typed(_read(path, self.name))

    def typed(self, given: pa.Table) -> pa.Table:
        """Return the rows of a table in the declared types. Raises ConfigError."""
        declared = {KEY: (self.declared.key, self.key)}
        declared |= {name: (one.column or name, scalar(one.type)) for name, one in self.declared.columns.items()}
        columns = {name: self._column(given, column, kind) for name, (column, kind) in declared.items()}
        keys = columns[KEY]
        if not len(keys):
            raise ConfigError(f"{self.name}: has no rows, so no record would be valid")
        if keys.null_count:
            row = pc.index(keys.is_null(), True).as_py()
            raise ConfigError(f"{self.name}: row {row + 1} has no {self.declared.key}, which is the key")
        counts = pc.value_counts(keys)
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        if len(twice):
            problem = f"the key {twice[0].as_py()} is there more than once in {self.declared.key}"
            raise ConfigError(
                f"{self.name}: {problem}" + (f", as are {len(twice) - 1:,} more" if len(twice) > 1 else "")
            )
        return sorted_by_key(pa.table(columns))

    def _file(self) -> pa.Table:
        return _read(self.folder / str(self.declared.file), self.name)

    def _queried(self) -> pa.Table:
        """Return the rows of the query, as texts: PostgreSQL writes them as CSV."""
        if not self.database_url:
            raise ConfigError(f"DATABASE_URL: is not set, and {self.name} is a query of it")
        query = str(self.declared.query).rstrip().rstrip(";")
        copy, csv = f"COPY (\n{query}\n) TO STDOUT (FORMAT csv, HEADER)", BytesIO()  # a comment may end a query
        try:
            with (
                psycopg.connect(
                    self.database_url, connect_timeout=_CONNECT_SECONDS, client_encoding="UTF8", options=_OPTIONS
                ) as connection,
                connection.cursor().copy(copy.encode()) as rows,
            ):
                csv.writelines(rows)
        except psycopg.OperationalError as error:
            raise UnavailableError(f"{self.name}: DATABASE_URL gives no rows: {_one_line(error)}") from None
        except psycopg.Error as error:
            raise ConfigError(f"{self.name}: query: {_one_line(error)}") from None
        return _csv(csv.getvalue(), self.name)

    def _column(self, given: pa.Table, column: str, kind: Type) -> pa.Array:
        number = given.column_names.count(column)
        if number != 1:
            problem = f"there is no column {quoted(column)}" if not number else f"has columns {quoted(column)} twice"
            raise ConfigError(f"{self.name}: {problem}; it has {', '.join(map(quoted, given.column_names))}")
        values = given[column].combine_chunks()
        try:
            return _cast(values, kind)
        except pa.ArrowInvalid:
            row, value = next(_unfit(values, kind), (0, None))
            problem = f"{column} of row {row + 1} is {quoted(str(value))}, which is no {kind.name}"
            raise ConfigError(f"{self.name}: {problem}") from None


def _read(path: Path, name: str) -> pa.Table:
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path, partitioning=None)
        return _csv(path.read_bytes(), f"{name}: {path}")
    except FileNotFoundError:
        raise ConfigError(f"{name}: there is no file {path}") from None
    except OSError as error:
        raise ConfigError(f"{name}: {path} cannot be read: {error.strerror or _one_line(error)}") from None
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{name}: {path} is no Parquet: {_one_line(error)}") from None


def _csv(content: bytes, name: str) -> pa.Table:
    """Return a CSV with a header, each cell as text; an empty one that has no quotes is null."""
    try:
        found = _cells(content)
        # Arrow takes what is behind a quote that nobody closes for one cell; a quote amid a cell is a letter
        if content.count(b'"') % 2 and _cells(content + b"\n") != found:
            raise ConfigError(f"{name}: a quote in it is not closed")
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: is no CSV with a header in UTF-8: {_one_line(error)}") from None
    return found


def _cells(content: bytes) -> pa.Table:
    parsed = pv.ParseOptions(newlines_in_values=True)
    columns = pv.open_csv(BytesIO(content), parse_options=parsed).schema.names
    converted = pv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()), null_values=[""], strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )  # fmt: skip
    return pv.read_csv(BytesIO(content), parse_options=parsed, convert_options=converted)


def _cast(values: pa.Array, kind: Type) -> pa.Array:
    """Return values in a type, each exactly. Raises ArrowInvalid where one is none of it."""
    if kind.name == "uuid":
        values = pc.utf8_lower(_first(values, [[pa.string()]]))
        if pc.any(pc.invert(pc.match_substring_regex(values, _UUID))).as_py():
            raise pa.ArrowInvalid(kind.name)
    if kind.name == "boolean" and pa.types.is_string(values.type):  # PostgreSQL writes one letter
        values = pc.replace_substring_regex(pc.replace_substring_regex(values, "^t$", "true"), "^f$", "false")
    ways: list[tuple[pa.DataType, ...]] = [(kind.arrow,), (pa.string(), kind.arrow)]
    if pa.types.is_timestamp(kind.arrow):  # without an offset it is UTC
        ways.append((pa.string(), pa.timestamp("us"), kind.arrow))
    if pa.types.is_floating(values.type) and values.type != kind.arrow:  # which Arrow would round
        del ways[0]
    found = _first(values, ways)
    if pa.types.is_floating(found.type) and pc.any(pc.invert(pc.is_finite(found))).as_py():
        raise pa.ArrowInvalid(kind.name)
    return found


def _first(values: pa.Array, ways: Sequence[Sequence[pa.DataType]]) -> pa.Array:
    """Return what the first way of casts makes of values that can. Raises ArrowInvalid."""
    for way in ways:
        try:
            return reduce(pa.Array.cast, way, values)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
    raise pa.ArrowInvalid(values.type)


def _unfit(values: pa.Array, kind: Type) -> Iterator[tuple[int, object]]:
    """Yield the row and the value of each that is none of the type."""
    for row in range(len(values)):
        try:
            _cast(values.slice(row, 1), kind)
        except pa.ArrowInvalid:
            yield row, values[row].as_py()


def _one_line(error: Exception) -> str:
    return " ".join(re.split(r"\nLINE |\nCONTEXT", str(error))[0].split())
