"""What becomes of columns whose declaration changed: what an output takes as it is, and what asks for a reset. Pure.

An output grows by columns and members of structs that a record may lack: rows that are there have null in them. It
also grows by wider types, which hold every value of the type before exactly: rows that are there keep their values.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

from stream_app.feeds.types import Type, of_arrow, precision_scale

Columns = Mapping[str, Type]
_Rows = TypeVar("_Rows", pa.RecordBatch, pa.Table)

_WIDER = {("int", "long"), ("float", "double")}


@dataclass(frozen=True)
class Change:
    """One difference between two declarations, by its path as in reasons: `items[].price`."""

    path: str
    sentence: str
    """What it is, with the path."""
    is_growth: bool
    """Whether files and tables take it as it is."""


def changes(old: Columns, new: Columns, required: Collection[str] = ()) -> Iterator[Change]:
    """Yield what differs; `required` are the paths that no record lacks. The order of columns is no difference."""
    yield from _members("", old, new, required)


def _members(prefix: str, old: Columns, new: Columns, required: Collection[str]) -> Iterator[Change]:
    for name in {**old, **new}:
        path = f"{prefix}{name}"
        if name not in new:
            yield Change(path, f"{path} is gone, removed or renamed", is_growth=False)
        elif name in old:
            yield from _types(path, old[name], new[name], required)
        elif path in required:
            yield Change(path, f"{path} is new and required, and the rows that are there have none", is_growth=False)
        else:
            yield Change(path, f"{path} is new", is_growth=True)


def _types(path: str, old: Type, new: Type, required: Collection[str]) -> Iterator[Change]:
    if old.name == new.name:
        return
    kind, now = (one.name.partition("<")[0] for one in (old, new))
    if old.parts and kind == now:
        yield from _members(f"{path}." if kind == "struct" else path, old.parts, new.parts, required)
    else:
        yield Change(path, f"{path} was {old.name} and is {new.name}", is_growth=_is_wider(old, new))


def _is_wider(old: Type, new: Type) -> bool:
    digits = precision_scale(old.name), precision_scale(new.name)
    if digits[0] and digits[1]:
        (precision, scale), (more, finer) = digits[0], digits[1]
        return finer >= scale and more - finer >= precision - scale
    return (old.name, new.name) in _WIDER


def holds(new: pa.DataType, old: pa.DataType) -> bool:
    """Return whether a type has every value of another, exactly, as files and tables have them."""
    if new == old:
        return True
    if pa.types.is_struct(new) and pa.types.is_struct(old):
        names = {one.name for one in new}
        return all(one.name in names and holds(new.field(one.name).type, one.type) for one in old)
    if pa.types.is_map(new) and pa.types.is_map(old):
        return bool(new.key_type == old.key_type) and holds(new.item_type, old.item_type)
    if pa.types.is_list(new) and pa.types.is_list(old):
        return holds(new.value_type, old.value_type)
    wide, narrow = of_arrow(new), of_arrow(old)
    return wide is not None and narrow is not None and _is_wider(narrow, wide)


def lifted(rows: _Rows, columns: pa.Schema) -> _Rows:
    """Return rows in exactly those columns, as they are read of a file that was written before the output grew.

    A column, or a member of a struct, that the file lacks is null. A narrower type becomes the wider one.
    """
    if rows.schema.equals(columns):
        return rows
    held = {*rows.schema.names}
    arrays = [
        rows[one.name].cast(one.type) if one.name in held else pa.nulls(rows.num_rows, one.type) for one in columns
    ]
    return type(rows).from_arrays(arrays, schema=columns)
