"""The CSV mirror: silver's declared fields as RFC 4180 text."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.types import StringType, StructField, StructType

from stream_app.feeds.feed import Feed
from stream_app.feeds.types import Cell

LINE = "line"
LINE_SEPARATOR = "\r\n"
LINES = StructType([StructField(LINE, StringType())])
_FORMULA = r"\A[=+\-@\t\r\n]"
_QUOTED = '[",\r\n]'
_WHOLE = r"\A-?[0-9]+\z"
_T_AT = 10  # where the blank of 2026-11-21 01:20:30.000000 stands


def header(feed: Feed) -> str:
    """The first line of each file, with its line separator."""
    return ",".join(feed.fields) + LINE_SEPARATOR


def lines(batch: pa.RecordBatch, feed: Feed) -> pa.RecordBatch:
    """Silver's rows -> LINES: a CSV record each, with its line separator.

    Text is quoted where it must be, times are ISO-8601 in UTC with microseconds, nothing stands for null. Text that a
    spreadsheet would run as a formula gets a leading apostrophe (OWASP, CSV injection).
    """
    cells = [_cell(batch[name], field.as_type.csv) for name, field in feed.fields.items()]
    cells[-1] = pc.binary_join_element_wise(_present(cells[-1]), LINE_SEPARATOR, "")
    joined = pc.binary_join_element_wise(*map(_present, cells), ",")
    return pa.RecordBatch.from_arrays([joined], [LINE])


def _present(cells: pa.Array) -> pa.Array:
    return pc.fill_null(cells, "") if cells.null_count else cells


def _cell(values: pa.Array, kind: Cell) -> pa.Array:
    if kind == "time":
        text = values.cast(pa.timestamp("us")).cast(pa.string())
        return pc.binary_join_element_wise(pc.utf8_replace_slice(text, _T_AT, _T_AT + 1, "T"), "Z", "")
    if kind == "double":  # 5.0 and not 5, or who guesses types finds another one in a file of whole numbers
        text = values.cast(pa.string())
        return pc.if_else(pc.match_substring_regex(text, _WHOLE), pc.binary_join_element_wise(text, ".0", ""), text)
    if kind != "text":
        return values.cast(pa.string())
    encoded = values.dictionary_encode()  # most columns repeat themselves
    return _text(encoded.dictionary).take(encoded.indices)


def _text(values: pa.Array) -> pa.Array:
    formula = pc.match_substring_regex(values, _FORMULA)
    if pc.any(formula).as_py():
        values = pc.if_else(formula, pc.binary_join_element_wise("'", values, ""), values)
    special = pc.match_substring_regex(values, _QUOTED)
    if pc.any(special).as_py():
        doubled = pc.replace_substring(values, '"', '""')
        values = pc.if_else(special, pc.binary_join_element_wise('"', doubled, '"', ""), values)
    return values
