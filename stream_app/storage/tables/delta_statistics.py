"""The statistics of a data file as Delta's log has them, from its Parquet footer. Tasks make them; no deltalake here.

Decimals are exact: delta-rs would write them as doubles, and readers would skip files by bounds that are rounded.
Nothing is said of nested columns. Of binary ones, booleans and floats only nulls are counted: to Spark a NaN is above
all numbers, and a footer does not tell of one. (Delta's protocol, "Per-file Statistics".)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_MOST_COLUMNS = 32
_LONGEST_TEXT = 32
_ABOVE_ALL = "\U0010ffff"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = int((datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH).total_seconds() * 1000)


def statistics(footer: pq.FileMetaData) -> str:
    """Return the number of rows, and by column the bounds and the number of nulls, as JSON."""
    lowest, highest, nulls = dict[str, str](), dict[str, str](), dict[str, str]()
    types = footer.schema.to_arrow_schema()
    for index in range(min(footer.num_columns, _MOST_COLUMNS)):
        column = footer.schema.column(index).path
        groups = [footer.row_group(group).column(index).statistics for group in range(footer.num_row_groups)]
        if "." in column or not all(one is not None and one.has_null_count for one in groups):
            continue
        nulls[column] = str(sum(one.null_count for one in groups))
        if groups and all(one.has_min_max for one in groups):
            low, high = _bounds(groups, types.field(column).type)
            lowest |= {column: low} if low else {}
            highest |= {column: high} if high else {}
    parts = {"minValues": lowest, "maxValues": highest, "nullCount": nulls}
    return _object({"numRecords": str(footer.num_rows), **{key: _object(values) for key, values in parts.items()}})


def _bounds(groups: Sequence[Any], kind: pa.DataType) -> tuple[str, str]:
    """Return the lowest and the highest value as JSON; "" for what no bound is given of."""
    lows, highs = [one.min_raw for one in groups], [one.max_raw for one in groups]
    if pa.types.is_string(kind):
        return json.dumps(min(lows).decode()[:_LONGEST_TEXT]), _above(max(highs).decode())
    if pa.types.is_decimal(kind):
        first, last = min(map(_unscaled, lows)), max(map(_unscaled, highs))
        return _decimal(first, kind.scale), _decimal(last, kind.scale)
    if pa.types.is_timestamp(kind):  # readers hold them to be of milliseconds, so a maximum is rounded up
        return _time(min(lows) // 1000), _time(-(-max(highs) // 1000))
    if pa.types.is_date(kind):
        return _date(min(lows)), _date(max(highs))
    return (str(min(lows)), str(max(highs))) if pa.types.is_integer(kind) else ("", "")


def _above(text: str) -> str:
    """Return the text, or a shorter one that is above it."""
    if len(text) <= _LONGEST_TEXT:
        return json.dumps(text)
    last = _LONGEST_TEXT - 1
    return "" if text[last] == _ABOVE_ALL else json.dumps(text[:last] + _ABOVE_ALL)


def _unscaled(raw: int | bytes) -> int:
    return raw if isinstance(raw, int) else int.from_bytes(raw, "big", signed=True)


def _decimal(unscaled: int, scale: int) -> str:
    digits = f"{abs(unscaled):0{scale + 1}d}"
    whole, part = (digits[:-scale], f".{digits[-scale:]}") if scale else (digits, "")
    return f"{'-' if unscaled < 0 else ''}{whole}{part}"


def _time(ms: int) -> str:
    if ms > _LAST_MS:
        return ""
    return json.dumps((_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z"))


def _date(days: int) -> str:
    return json.dumps((date(1970, 1, 1) + timedelta(days=days)).isoformat())


def _object(values: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in values.items()) + "}"
