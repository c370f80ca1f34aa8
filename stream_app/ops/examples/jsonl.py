"""Rows as lines of JSON, one spelling for each value, so that equal rows are equal lines. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa

# As many digits as any decimal or the shortest text of any double has.
_EXACT = Context(prec=400)
_LONGEST = 40


def lines(table: pa.Table) -> list[str]:
    """Return a line for each row.

    Times are ISO 8601 in UTC, binary is base64, decimals and doubles are numbers without zeros at their end.
    """
    names = table.column_names
    columns = [[_plain(value, column.type) for value in column.to_pylist()] for column in table.columns]
    return [_text(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def respelled(line: str, *, in_order: bool = False) -> str:
    """Return a line that a person wrote as `lines` spells it, keys as they are or in order. Raises ValueError."""
    return _text(json.loads(line, parse_float=Decimal), in_order=in_order)


def _plain(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_nested(kind):
        return _nested(value, kind)
    if pa.types.is_timestamp(kind):
        time = value.astimezone(UTC).replace(tzinfo=None).isoformat()
        return (time.rstrip("0") if "." in time else time) + "Z"
    if pa.types.is_date(kind):
        return value.isoformat()
    return base64.b64encode(value).decode() if pa.types.is_binary(kind) else value


def _nested(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_struct(kind):
        return {field.name: _plain(value[field.name], field.type) for field in kind}
    if pa.types.is_map(kind):
        return {key: _plain(one, kind.item_type) for key, one in value}
    return [_plain(one, kind.value_type) for one in value]


def _text(value: Any, *, in_order: bool = False) -> str:
    if isinstance(value, dict):
        items = sorted(value.items()) if in_order else value.items()
        return "{" + ", ".join(f"{_text(key)}: {_text(one, in_order=in_order)}" for key, one in items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(one, in_order=in_order) for one in value) + "]"
    if isinstance(value, float):
        value = Decimal(repr(value))
    return _number(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def _number(number: Decimal) -> str:
    if not number.is_finite():
        return json.dumps(str(number))
    plain = f"{number.normalize(_EXACT) or Decimal(0):f}"
    return plain if len(plain) <= _LONGEST else str(number.normalize(_EXACT))


def rows(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line that is not empty with its number, from 1."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line
