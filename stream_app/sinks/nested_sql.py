"""Values inside of values as DuckDB compares them: a file or a table has them as JSON text, the dataset as they are.

What is binary in them is base64 in that text. A text without anything and one that is not there may look alike. A map
is its entries in the order of the keys: a jsonb has an order of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pyarrow as pa

from stream_app.feeds.sql import name, text

_TEXT_OR_NUMBER = r'("(?:[^"\\]|\\.)*")|(-?[0-9][-+0-9.eE]*)'


def compared(columns: pa.Schema) -> tuple[str, str]:
    """Return a dataset's columns, and those of a table that has nested ones as JSON and no text with a NUL."""
    return (
        ", ".join(f"{_as_table(name(one.name), one.type)} AS {name(one.name)}" for one in columns),
        ", ".join(f"{_of_table(name(one.name), one.type)} AS {name(one.name)}" for one in columns),
    )


def plain(value: str, kind: pa.DataType) -> str:
    """Return the SQL for a value with base64 in the place of what is binary in it, and entries for a map."""
    if pa.types.is_float64(kind):
        return _as_was_float(value)
    return f"to_base64({value})" if pa.types.is_binary(kind) else _each(value, kind, plain)


def read_back(value: str, kind: pa.DataType) -> str:
    """Return the SQL for the same, of its JSON text."""
    exact = _with_quoted_numbers(value) if _has(kind, pa.types.is_decimal) else value
    return _entries(f"json_transform({exact}, {text(json.dumps(_structure(kind)))})", kind)


def _entries(value: str, kind: pa.DataType) -> str:
    if pa.types.is_float64(kind):
        return _as_was_float(value)
    return _each(value, kind, _entries) if _has(kind, pa.types.is_map) or _has(kind, pa.types.is_float64) else value


def _as_was_float(value: str) -> str:
    """Return the SQL for a double: one with the digits of a float is that float.

    The text was written when the field was a float yet: 0.1 of what its dataset has as 0.10000000149011612 now.
    """
    as_float = f"TRY_CAST({value} AS FLOAT)"
    return f"CASE WHEN {as_float}::VARCHAR = {value}::VARCHAR THEN {as_float}::DOUBLE ELSE {value} END"


def _each(value: str, kind: pa.DataType, change: Callable[[str, pa.DataType], str]) -> str:
    """Return the SQL for a value with `change` of each that is directly in it."""
    if pa.types.is_map(kind):
        key, value_of = change("one.key", kind.key_type), change("one.value", kind.item_type)
        entry = f"{{'key': {key}, 'value': {value_of}}}"
        return f"list_sort(list_transform(map_entries({value}), one -> {entry}))"
    if pa.types.is_list(kind):
        return f"list_transform({value}, one -> {change('one', kind.value_type)})"
    if pa.types.is_struct(kind):
        members = (f"{text(part.name)}: {change(f'{value}.{name(part.name)}', part.type)}" for part in kind)
        return f"CASE WHEN {value} IS NOT NULL THEN {{{', '.join(members)}}} END"
    return value


def _as_table(column: str, kind: pa.DataType) -> str:
    """Return the SQL for a value with what PostgreSQL takes for a NUL: it is in no text of a jsonb either."""
    if pa.types.is_string(kind):
        return f"replace({column}, chr(0), chr(65533))"
    return _each(column, kind, _in_table) if pa.types.is_nested(kind) else column


def _in_table(value: str, kind: pa.DataType) -> str:
    is_leaf = pa.types.is_binary(kind) or pa.types.is_float64(kind)
    return plain(value, kind) if is_leaf else _as_table(value, kind)


def _of_table(column: str, kind: pa.DataType) -> str:
    return read_back(column, kind) if pa.types.is_nested(kind) else column


def _with_quoted_numbers(value: str) -> str:
    """Return the SQL for a JSON text with each number as a text, which DuckDB would read as a double.

    A match is a text or a number, and two marks are put around the number, which no JSON text has in it. Marks with
    nothing between are a text's, and go; the others become quotes.
    """
    begin, end = "chr(1)", "chr(2)"
    marked = f"regexp_replace({value}, {text(_TEXT_OR_NUMBER)}, '\\1' || {begin} || '\\2' || {end}, 'g')"
    quoted = f"replace({marked}, {begin} || {end}, '')"
    return f"replace(replace({quoted}, {begin}, '\"'), {end}, '\"')"


def _has(kind: pa.DataType, is_one: Callable[[pa.DataType], bool]) -> bool:
    """Return whether a type, or one inside of it, is such a one."""
    inside = (kind.field(place).type for place in range(kind.num_fields)) if pa.types.is_nested(kind) else ()
    return bool(is_one(kind)) or any(_has(one, is_one) for one in inside)


def _structure(kind: pa.DataType) -> object:
    if pa.types.is_map(kind):
        return _typed(kind)  # a structure has no word for it
    if pa.types.is_list(kind):
        return [_structure(kind.value_type)]
    if pa.types.is_struct(kind):
        return {part.name: _structure(part.type) for part in kind}
    return _scalar(kind)


def _typed(kind: pa.DataType) -> str:
    if pa.types.is_map(kind):
        return f"MAP(VARCHAR, {_typed(kind.item_type)})"
    if pa.types.is_list(kind):
        return f"{_typed(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return f"STRUCT({', '.join(f'{name(part.name)} {_typed(part.type)}' for part in kind)})"
    return _scalar(kind)


def _scalar(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "BIGINT"
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if pa.types.is_floating(kind):
        return "FLOAT" if pa.types.is_float32(kind) else "DOUBLE"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMPTZ"
    return "BOOLEAN" if pa.types.is_boolean(kind) else "VARCHAR"
