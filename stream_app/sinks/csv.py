"""A dataset as RFC 4180 text: a CSV file a batch.

Guarantee: exactly once, as sinks/batch.py. Of silver it has the declared fields, of all others every column.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StringType, StructField, StructType

from stream_app.feeds.growth import Columns
from stream_app.feeds.schema import types_of
from stream_app.feeds.sql import name, text
from stream_app.feeds.types import Type
from stream_app.layers.kind import Kind
from stream_app.layers.origin import Origins
from stream_app.layers.reading import Reading
from stream_app.sinks import json_text, nested_sql
from stream_app.sinks.files import FileSink
from stream_app.storage.lines import LINE, Csv
from stream_app.storage.row_counts import csv_dialect, paths

LINE_SEPARATOR = "\r\n"
LINES = StructType([StructField(LINE, StringType())])
_FORMULA = r"\A[=+\-@\t\r\n]"
_QUOTED = '[",\r\n]'
_WHOLE = r"\A-?[0-9]+\z"
_TEXTS = {"base64", "json"}


class CsvSink(FileSink):
    """The dataset as CSV, a file a batch."""

    to: Literal["csv"]
    """The kind of sink."""

    def form(self, kind: Kind) -> Csv:
        """Return CSV with the header of the dataset."""
        return Csv(header=header(kind))

    def taken(self, kind: Kind) -> StructType:  # noqa: ARG002 - whatever the columns are
        """Return LINES."""
        return LINES

    def reader_columns(self, kind: Kind) -> dict[str, tuple[Type, Origins]]:
        """Return the columns that are shown as text."""
        return {name: one for name, one in super().reader_columns(kind).items() if name in kind.text_columns.names}

    def reading(self, kind: Kind) -> Reading:
        """Make a line of each row."""
        columns = _types(kind)
        return Reading(kind.text_columns, lambda batch: lines(batch, columns))

    def read(self, kind: Kind, columns: Columns, files: Sequence[Path]) -> str:
        """Return the SQL for the records, typed; binary and nested values are texts."""
        shown = {column: one for column, one in columns.items() if column in kind.text_columns.names}
        typed = ", ".join(f"{text(column)}: {text(one)}" for column, one in _in_sql(shown).items())
        given = f"hive_partitioning = false, columns = {{{typed}}}, {csv_dialect(files)}"
        return f"SELECT * FROM read_csv({paths(files)}, {given})"

    def sql_columns(self, kind: Kind) -> dict[str, str]:
        """Return the columns that its files have, as DuckDB's types."""
        return _in_sql(_types(kind))

    def newest_first(self, kind: Kind) -> str:
        """By the dataset's time, which is among the columns."""
        return f"{name(kind.time)} DESC"

    def compared(self, kind: Kind) -> tuple[str, str]:
        """Return the columns as CSV shows them: text that a spreadsheet would run has an apostrophe before it.

        A text that is empty and one that is not there look alike in it.
        """
        types = _types(kind).items()
        arrow = to_arrow_schema(kind.columns, timezone="UTC")
        of_dataset = (f"{_shown(name(c), one, arrow.field(c).type)} AS {name(c)}" for c, one in types)
        of_file = (f"{_read_back(name(c), one, arrow.field(c).type)} AS {name(c)}" for c, one in types)
        return ", ".join(of_dataset), ", ".join(of_file)


def header(kind: Kind) -> bytes:
    """Return the first line of each file, with its line separator."""
    return (",".join(_types(kind)) + LINE_SEPARATOR).encode()


def lines(batch: pa.RecordBatch, columns: Mapping[str, Type]) -> pa.RecordBatch:
    """Rows -> LINES: a CSV record each, with its line separator.

    Text is quoted where it must be, times are ISO-8601 in UTC with microseconds, nothing is for null. Text that a
    spreadsheet would run as a formula gets a leading apostrophe (OWASP, CSV injection).
    """
    cells = [_cell(batch[column], one) for column, one in columns.items()]
    cells[-1] = pc.binary_join_element_wise(_present(cells[-1]), LINE_SEPARATOR, "")
    joined = pc.binary_join_element_wise(*map(_present, cells), ",")
    return pa.RecordBatch.from_arrays([joined], [LINE])


def _in_sql(columns: Columns) -> dict[str, str]:
    return {column: "VARCHAR" if one.csv in _TEXTS else one.duckdb for column, one in columns.items()}


def _types(kind: Kind) -> dict[str, Type]:
    return types_of(kind.text_columns)


def _present(cells: pa.Array) -> pa.Array:
    return pc.fill_null(cells, "") if cells.null_count else cells


def _cell(values: pa.Array, kind: Type) -> pa.Array:
    match kind.csv:
        case "time":
            return json_text.times(values)
        case "double":  # 5.0 and not 5, or who guesses types finds another one in a file of whole numbers
            shown = values.cast(pa.string())
            whole = pc.match_substring_regex(shown, _WHOLE)
            return pc.if_else(whole, pc.binary_join_element_wise(shown, ".0", ""), shown)
        case "base64":
            encoded = (None if one is None else b64encode(one).decode() for one in values.to_pylist())
            return pa.array(encoded, pa.string())
        case "decimal" | "json":  # without exponents: DuckDB reads no 1E-38 as a DECIMAL(38,38)
            return _quoted(json_text.values(values, json_text.plain_digits))
        case "text":
            known = values.dictionary_encode()  # most columns repeat themselves
            return _quoted(_harmless(known.dictionary)).take(known.indices)
        case _:
            return values.cast(pa.string())


def _harmless(values: pa.Array) -> pa.Array:
    formula = pc.match_substring_regex(values, _FORMULA)
    if pc.any(formula).as_py():
        return pc.if_else(formula, pc.binary_join_element_wise("'", values, ""), values)
    return values


def _quoted(values: pa.Array) -> pa.Array:
    special = pc.match_substring_regex(values, _QUOTED)
    if pc.any(special).as_py():
        doubled = pc.replace_substring(values, '"', '""')
        return pc.if_else(special, pc.binary_join_element_wise('"', doubled, '"', ""), values)
    return values


def _shown(column: str, kind: Type, arrow: pa.DataType) -> str:
    """Return the SQL for a column of the dataset as CSV shows it."""
    if kind.csv == "text":
        present = f"coalesce({column}, '')"
        return f"CASE WHEN regexp_matches({present}, '^[=+\\-@\\t\\r\\n]') THEN chr(39) || {present} ELSE {present} END"
    if kind.csv == "base64":  # an empty value looks as if it were not there
        return f"nullif(to_base64({column}), '')"
    return nested_sql.plain(column, arrow) if kind.csv == "json" else column


def _read_back(column: str, kind: Type, arrow: pa.DataType) -> str:
    """Return the SQL for the same of a file."""
    if kind.csv == "json":
        return nested_sql.read_back(f"nullif({column}, '')", arrow)
    if kind.csv == "base64":
        return f"nullif({column}, '')"
    return f"coalesce({column}, '')" if kind.csv == "text" else column
