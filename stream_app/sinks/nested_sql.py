"""Values inside of values as DuckDB compares them: a file or a table has them as JSON text, the dataset as they are.

What is binary in them is base64 in that text. A text without anything and one that is not there may look alike.
"""

from __future__ import annotations

import json

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
    """Return the SQL for a value with base64 in the place of what is binary in it."""
    if pa.types.is_binary(kind):
        return f"to_base64({value})"
    if pa.types.is_list(kind):
        return f"list_transform({value}, one -> {plain('one', kind.value_type)})"
    if pa.types.is_struct(kind):
        members = (f"{text(part.name)}: {plain(f'{value}.{name(part.name)}', part.type)}" for part in kind)
        return f"CASE WHEN {value} IS NOT NULL THEN {{{', '.join(members)}}} END"
    return value


def read_back(value: str, kind: pa.DataType) -> str:
    """Return the SQL for the same, of its JSON text."""
    exact = _with_quoted_numbers(value) if _has_decimals(kind) else value
    return f"json_transform({exact}, {text(json.dumps(_structure(kind)))})"


def _as_table(column: str, kind: pa.DataType) -> str:
    if pa.types.is_string(kind):
        return f"replace({column}, chr(0), chr(65533))"
    return plain(column, kind) if pa.types.is_nested(kind) else column


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


def _has_decimals(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_has_decimals(kind.field(place).type) for place in range(kind.num_fields))
    return bool(pa.types.is_decimal(kind))


def _structure(kind: pa.DataType) -> object:
    if pa.types.is_list(kind):
        return [_structure(kind.value_type)]
    if pa.types.is_struct(kind):
        return {part.name: _structure(part.type) for part in kind}
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
