"""What fields of each kind do: single values, arrays, maps and structs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream_app.contract.codecs.codec import Shape
from stream_app.contract.columns import SURROGATE, column_of
from stream_app.contract.node import NOWHERE, Finished, Node, Reasons, Undeclared, union
from stream_app.contract.record import Group
from stream_app.contract.wire import Places
from stream_app.feeds.feed import Feed
from stream_app.feeds.fields import Field


def record_of(feed: Feed) -> Group:
    """Return the fields of a feed, as they are in a record."""
    return Group(feed.fields, _node_of)


def _node_of(field: Field, path: str) -> Node:
    """Return the node of a declared field."""
    kinds: dict[str, type[_One | _Array | _Map | _Struct]] = {"array": _Array, "map": _Map, "struct": _Struct}
    return kinds.get(field.type, _One)(field, path)


class _One(Node):
    """A field that holds one value."""

    def __init__(self, field: Field, path: str) -> None:
        super().__init__(field, path)
        self._column = column_of(field)
        self._read = self._column.judge
        self.kind, self.is_final, self.has_raw = self._column.kind, self._column.is_final, self._column.is_raw
        self.shape = Shape(here=self._column.is_text)

    def undeclared(self, given: Any, found: Undeclared) -> None:
        """Add nothing: a value that is not declared has no members that could be."""

    def _type_of(self, *, strict: bool) -> Any:  # noqa: ARG002 - it has no members
        return self._column.decoded

    def judge(self, given: Any, reasons: Reasons) -> Any:
        """Return the row's value; None, after adding the reasons, where there is none."""
        if type(given) is not self.kind:
            return self._unfit(given, reasons)
        judged = self._read(given)
        if type(judged) is not tuple:
            return judged
        reasons.update(dict.fromkeys(f"{reason}:{self.path}" for reason in judged))
        return None

    def hold(self, values: Sequence[Any]) -> pa.Array:
        """Return decoded values as Arrow, null where there is none."""
        return _joined(values) if self.has_raw else pa.array(values, self._column.held)

    def _finish(self, held: pa.Array) -> Finished:
        doubtful = NOWHERE
        if self.has_raw:
            is_null = pc.equal(held, b"null")
            if pc.any(is_null).as_py():
                doubtful = np.flatnonzero(is_null.fill_null(False)) if self.is_required else NOWHERE
                held = pc.if_else(is_null, pa.nulls(len(held), held.type), held)
        column = self._column.finish_all(held) if self._column.finish_all else held
        if not self.is_final and column.null_count > held.null_count:
            doubtful = np.union1d(doubtful, np.flatnonzero(pc.and_(column.is_null(), held.is_valid())))
        return (column if column.type == self.arrow else column.view(self.arrow)), doubtful


# No UTF-8 has this byte, so no JSON has it.
_SEPARATOR = b"\xff"


def _joined(raws: Sequence[Any]) -> pa.Array:
    """Return raw values as binary, null where one was left out. One by one it would take three times as long."""
    try:
        joined = _SEPARATOR.join(raws)
    except TypeError:  # one was left out
        joined = _SEPARATOR.join([b"" if raw is None else raw for raw in raws])
    ends = np.flatnonzero(np.frombuffer(joined, np.uint8) == _SEPARATOR[0])
    if len(ends) != len(raws) - 1:  # there is none, or one is no UTF-8
        return pa.array([None if raw is None else bytes(raw) for raw in raws], pa.binary())
    offsets = np.concatenate([[0], ends - np.arange(len(ends)), [len(joined) - len(ends)]]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(joined.replace(_SEPARATOR, b""))]
    held = pa.Array.from_buffers(pa.binary(), len(raws), buffers)
    is_missing = np.diff(offsets) == 0  # no JSON is empty
    return pc.if_else(pa.array(is_missing), pa.nulls(len(held), held.type), held) if is_missing.any() else held


class _Array(Node):
    kind = list

    def __init__(self, field: Field, path: str) -> None:
        super().__init__(field, path)
        self._element = _node_of(field.inner, f"{path}[]")
        self._length = field.length
        self.is_final, self.has_raw = self._element.is_final, self._element.has_raw
        self.shape = Shape(each=self._element.shape or None)

    def undeclared(self, given: Any, found: Undeclared) -> None:
        """Add what nobody has declared in the elements."""
        for element in given if type(given) is list else ():
            self._element.undeclared(element, found)

    def _type_of(self, *, strict: bool) -> Any:
        return _sized(tuple[self._element.type_of(strict=strict), ...], self._length)  # type: ignore[misc]  # made here

    def judge(self, given: Any, reasons: Reasons) -> Any:
        """Return the row's value; None, after adding the reasons, where there is none."""
        if type(given) is not self.kind:
            return self._unfit(given, reasons)
        if self._length and not self._length[0] <= len(given) <= self._length[1]:
            reasons[f"out_of_range:{self.path}"] = None
        return [self._element.judge(element, reasons) for element in given]

    def hold(self, values: Sequence[Any]) -> pa.Array:
        """Return decoded values as Arrow, null where there is none."""
        offsets, mask = _bounds(values)
        elements = self._element.hold(list(chain.from_iterable(filter(None, values))))
        return pa.ListArray.from_arrays(offsets, elements, mask=mask)

    def _finish(self, held: pa.Array) -> Finished:
        elements, doubtful = self._element.finish(held.values)
        column = pa.ListArray.from_arrays(held.offsets, elements, self.arrow, mask=_mask(held))
        return column, _owners(held.offsets, doubtful)


class _Map(Node):
    kind = dict

    def __init__(self, field: Field, path: str) -> None:
        super().__init__(field, path)
        self._value = _node_of(field.inner, f"{path}{{}}")
        self._length = field.length
        self.is_final, self.has_raw = self._value.is_final, self._value.has_raw
        self.shape = Shape(each=self._value.shape or None)

    def undeclared(self, given: Any, found: Undeclared) -> None:
        """Add what nobody has declared in the values."""
        for value in given.values() if type(given) is dict else ():
            self._value.undeclared(value, found)

    def _type_of(self, *, strict: bool) -> Any:
        return _sized(dict[str, self._value.type_of(strict=strict)], self._length)  # type: ignore[misc]  # made here

    def judge(self, given: Any, reasons: Reasons) -> Any:
        """Return the row's value; None, after adding the reasons, where there is none."""
        if type(given) is not self.kind:
            return self._unfit(given, reasons)
        if self._length and not self._length[0] <= len(given) <= self._length[1]:
            reasons[f"out_of_range:{self.path}"] = None
        if any(map(SURROGATE.search, given)):
            reasons[f"bad_type:{self.path}"] = None
        return [(key, self._value.judge(value, reasons)) for key, value in given.items()]

    def hold(self, values: Sequence[Any]) -> pa.Array:
        """Return decoded values as Arrow, null where there is none."""
        offsets, mask = _bounds(values)
        present = list(filter(None, values))
        keys = pa.array(list(chain.from_iterable(present)), pa.string())
        inner = self._value.hold(list(chain.from_iterable(map(dict.values, present))))
        return pa.MapArray.from_arrays(offsets, keys, inner, mask=mask)

    def _finish(self, held: pa.Array) -> Finished:
        inner, doubtful = self._value.finish(held.items)
        column = pa.MapArray.from_arrays(held.offsets, held.keys, inner, self.arrow, mask=_mask(held))
        return column, _owners(held.offsets, doubtful)


class _Struct(Node):
    kind = dict

    def __init__(self, field: Field, path: str) -> None:
        super().__init__(field, path)
        self._fields = Group(field.fields or {}, _node_of, f"{path}.")
        self.is_final = all(node.is_final for node in self._fields.nodes)
        self.has_raw, self.shape = self._fields.has_raw, self._fields.shape
        self._empty = self._fields.empty

    def undeclared(self, given: Any, found: Undeclared) -> None:
        """Add what nobody has declared among the members."""
        self._fields.undeclared(given, found)

    def _type_of(self, *, strict: bool) -> Any:
        return self._fields.struct(strict=strict)

    def judge(self, given: Any, reasons: Reasons) -> Any:
        """Return the row's value; None, after adding the reasons, where there is none."""
        if type(given) is not self.kind:
            return self._unfit(given, reasons)
        return dict(zip(self._fields.names, self._fields.judge(given, reasons), strict=True))

    def hold(self, values: Sequence[Any]) -> pa.Array:
        """Return decoded values as Arrow, null where there is none."""
        mask = None
        if None in values:
            mask = pa.array([value is None for value in values])
            values = [self._empty if value is None else value for value in values]
        return pa.StructArray.from_arrays(
            self._fields.hold(values, self._fields.names), names=[*self._fields.names], mask=mask
        )

    def _finish(self, held: pa.Array) -> Finished:
        finished = [node.finish(held.field(i)) for i, node in enumerate(self._fields.nodes)]
        columns, doubtful = zip(*finished, strict=True)
        return pa.StructArray.from_arrays(columns, fields=[*self.arrow], mask=_mask(held)), union(doubtful)


def _sized(kind: Any, length: tuple[int, int] | None) -> Any:
    return Annotated[kind, msgspec.Meta(min_length=length[0], max_length=length[1])] if length else kind


def _mask(held: pa.Array) -> pa.Array | None:
    return held.is_null() if held.null_count else None


def _bounds(values: Sequence[Any]) -> tuple[pa.Array, pa.Array | None]:
    """Return where each array or map begins among all their elements, and which are null."""
    mask = None
    try:
        lengths = list(map(len, values))
    except TypeError:  # one is null
        lengths = [len(value) if value else 0 for value in values]
        mask = pa.array([value is None for value in values])
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.array(offsets), mask


def _owners(offsets: pa.Array, doubtful: Places) -> Places:
    """Return the places of the arrays or maps that those elements are in."""
    if not len(doubtful):
        return NOWHERE
    return np.unique(np.searchsorted(offsets.to_numpy(), doubtful, "right") - 1)
