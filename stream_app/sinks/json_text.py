"""Rows as JSON text, made column by column in Arrow: what Spark's to_json writes, without a way through the JVM.

The same bytes as that: keys in the order of the columns, none for null; times in UTC with six decimals and Z; decimals
as BigDecimal writes them; doubles as Double.toString since Java 19, the fewest digits that read back as the same;
binary as base64; in texts quotes, backslashes and control characters escaped, all else as it is.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_ESCAPED = '["\\\\\\x00-\\x1f]'
_ESCAPES = str.maketrans(
    {chr(code): f"\\u{code:04X}" for code in range(32)}
    | {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
)
_T_AT = 10  # where the blank of 2026-11-21 01:20:30.000000 is
_LEAST_PLAIN, _MOST_PLAIN = 1e-3, 1e7
# With more of them, small numbers have an exponent.
_PLAIN_DECIMALS = 6


def objects(batch: pa.RecordBatch) -> pa.Array:
    """Return a JSON object for each row, of all its columns."""
    members = [_member(name, values(batch[name])) for name in batch.schema.names]
    # null_handling="skip" would leave out rows that have nothing but null (Arrow 21)
    joined = pc.binary_join_element_wise(*members, "", null_handling="replace", null_replacement="")
    return pc.binary_join_element_wise("{", pc.utf8_slice_codeunits(joined, 1), "}", "")


def texts(column: pa.Array) -> pa.Array:
    """Return a column of single values as texts: as in JSON, without the quotes and escapes."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return column
    cells = values(column)
    return pc.utf8_slice_codeunits(cells, 1, -1) if _is_quoted(kind) else cells


def times(column: pa.Array) -> pa.Array:
    """Return times as ISO 8601 in UTC, with six decimals and Z; null for null."""
    text = column.cast(pa.timestamp("us")).cast(pa.string())
    return pc.binary_join_element_wise(pc.utf8_replace_slice(text, _T_AT, _T_AT + 1, "T"), "Z", "")


def _member(name: str, cells: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(f',"{name}":', cells, "")


def _is_quoted(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def values(column: pa.Array, digits: Callable[[Decimal], str] = str) -> pa.Array:
    """Return the JSON of each value of a column; null for null. `digits` writes decimals that may be very small."""
    kind = column.type
    if pa.types.is_string(kind):
        return _strings(column)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.string())
    if pa.types.is_timestamp(kind):
        return pc.binary_join_element_wise('"', times(column), '"', "")
    if pa.types.is_decimal(kind) and kind.scale <= _PLAIN_DECIMALS:
        return column.cast(pa.string())
    written = _writer(kind, digits)
    return pa.array([None if value is None else written(value) for value in column.to_pylist()], pa.string())


def _strings(column: pa.Array) -> pa.Array:
    special = pc.match_substring_regex(column, _ESCAPED)
    if pc.any(special).as_py():
        places = pc.indices_nonzero(special)
        escaped = [text.translate(_ESCAPES) for text in column.take(places).to_pylist()]
        column = pc.replace_with_mask(column, pc.fill_null(special, fill_value=False), pa.array(escaped, pa.string()))
    return pc.binary_join_element_wise('"', column, '"', "")


def plain_digits(value: Decimal) -> str:
    """Return a decimal without an exponent."""
    return f"{value:f}"


def _writer(kind: pa.DataType, digits: Callable[[Decimal], str]) -> Callable[[Any], str]:
    """Return what writes a value of that type, which is not null."""
    if pa.types.is_map(kind):
        return partial(_map, _writer(kind.item_type, digits))
    if pa.types.is_list(kind):
        return partial(_list, _writer(kind.value_type, digits))
    if pa.types.is_struct(kind):
        return partial(_struct, {part.name: _writer(part.type, digits) for part in kind})
    if pa.types.is_decimal(kind):
        return digits
    for is_one, written in _WRITTEN.items():
        if is_one(kind):
            return written
    raise TypeError(kind)


def _double(shown: str) -> str:
    """Return a number, which Python shows by the fewest digits, as Java shows it by them."""
    if (value := float(shown)) - value != 0:  # not finite
        return {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}[shown]
    if value == 0 or _LEAST_PLAIN <= abs(value) < _MOST_PLAIN:
        return shown
    sign, digits, exponent = Decimal(shown).normalize().as_tuple()
    assert isinstance(exponent, int)  # noqa: S101 - it is finite
    first, *rest = map(str, digits)
    return f"{'-' if sign else ''}{first}.{''.join(rest) or '0'}E{exponent + len(digits) - 1}"


def _text(value: str) -> str:
    return f'"{value.translate(_ESCAPES)}"'


def _time(value: datetime) -> str:
    utc = value.astimezone(UTC)
    return f'"{utc.year:04d}-{utc:%m-%dT%H:%M:%S.%f}Z"'


def _struct(parts: Mapping[str, Callable[[Any], str]], value: Mapping[str, object]) -> str:
    members = (f"{_text(name)}:{written(value[name])}" for name, written in parts.items() if value[name] is not None)
    return f"{{{','.join(members)}}}"


def _map(written: Callable[[Any], str], entries: Sequence[tuple[str, object]]) -> str:
    """Write an entry without a value, too: unlike a member of a struct, it is there only where the record has it."""
    members = (f"{_text(key)}:{'null' if one is None else written(one)}" for key, one in entries)
    return f"{{{','.join(members)}}}"


def _list(written: Callable[[Any], str], elements: Sequence[object]) -> str:
    return f"[{','.join('null' if one is None else written(one) for one in elements)}]"


_WRITTEN: dict[Callable[[pa.DataType], bool], Callable[[Any], str]] = {
    pa.types.is_boolean: lambda value: "true" if value else "false",
    pa.types.is_string: _text,
    pa.types.is_integer: str,
    pa.types.is_float32: lambda value: _double(str(np.float32(value))),
    pa.types.is_floating: lambda value: _double(repr(value)),
    pa.types.is_binary: lambda value: f'"{b64encode(value).decode()}"',
    pa.types.is_timestamp: _time,
    pa.types.is_date: lambda value: f'"{value.isoformat()}"',
}
"""By type, the narrower before the wider."""
