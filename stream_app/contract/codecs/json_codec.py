"""JSON: the definition by Python's parser, the fast path by msgspec."""

from __future__ import annotations

from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves it out
from re import compile as pattern
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from stream_app.contract.codecs.codec import Decoded, Hold, Record, Shape, Text
from stream_app.contract.wire import PARSER, Places, is_too_deep, is_whole, json_of, may_not_be_whole

NOT_JSON, NOT_OBJECT = "not_json", "not_object"
# What msgspec raises for bytes of any kind; it recurses, too.
_UNDECODED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# So many records fit into a core's own cache, where their values are read again, field by field. With ten times as
# many, a batch takes nearly twice the time.
_PORTION = 1_000
_blanks = pattern(r"[ \t\n\r]*").match


class JsonCodec:
    """Records that are one JSON object each.

    declared, wider: a struct that refuses more members than it has, and the same that skips them.
    shape: where values are kept as their text.
    skips: whether the structs keep raw values, into which msgspec does not look.
    """

    def __init__(self, declared: type[Any], wider: type[Any] | None, shape: Shape, *, skips: bool) -> None:
        self._decode_declared = msgspec.json.Decoder(declared).decode
        self._decode_wider = msgspec.json.Decoder(wider).decode if wider else None
        self._shape = shape
        self._skips = skips

    def record(self, value: bytes) -> Record | str:
        """Return the record, or not_json or not_object. Of a key that comes twice the last value counts."""
        if is_too_deep(value):
            return NOT_JSON
        try:
            record = json_of(value)
        except ValueError:
            return NOT_JSON
        if not isinstance(record, dict):
            return NOT_OBJECT
        return _with_texts(value.decode(), self._shape) if self._shape else record

    def outline(self, value: bytes) -> Record | str:
        """Return the record with its numbers rounded, or not_json or not_object."""
        try:
            record = msgspec.json.decode(value) if is_whole(value) else None
        except _UNDECODED:  # also for numbers beyond any double, and half of a pair of surrogates
            record = None
        return record if type(record) is dict else self.record(value)

    def records(self, values: pa.Array, hold: Hold) -> Decoded:
        """Decode a batch by msgspec."""
        given = values.fill_null(b"") if values.null_count else values
        held, doubtful, undeclared = list[list[pa.Array]](), list[int](), list[int]()
        for first in range(0, max(1, len(given)), _PORTION):
            # a tenth of to_pylist()'s time
            wires = given[first : first + _PORTION].to_numpy(zero_copy_only=False).tolist()
            held.append(hold(self._portion(wires, first, doubtful, undeclared)))
        columns = [pa.concat_arrays(parts) for parts in zip(*held, strict=True)]
        decoded = Decoded(columns, _without(len(values), doubtful), doubtful, undeclared)
        return _looked_into(values, decoded) if self._skips else decoded

    def _portion(self, wires: list[bytes], first: int, doubtful: list[int], undeclared: list[int]) -> list[Any]:
        """Return the structs of the records at `first` and behind it; note what is none, or holds more."""
        records, found, none = list[Any](), map(self._decode_declared, wires), 0
        while True:
            try:
                records.extend(found)  # where it raises, those before are kept
            except _UNDECODED:
                at = len(records) + none
                record = self._wider(wires[at])
                if record is None:
                    doubtful.append(first + at)
                    none += 1
                else:
                    undeclared.append(first + at)
                    records.append(record)
            else:
                return records

    def _wider(self, value: bytes) -> Any:
        """Return a record with members that are not declared, which msgspec skips without a look at depth and text."""
        try:
            return self._decode_wider(value) if self._decode_wider and value and is_whole(value) else None
        except _UNDECODED:
            return None


def _looked_into(values: pa.Array, decoded: Decoded) -> Decoded:
    """Put what is no JSON among the doubtful.

    msgspec does not look at the depth and the text of raw values. Nor does it at those of the first value of a key that
    comes twice.
    """
    unsure = may_not_be_whole(values, len(decoded.places)).tolist()
    broken = {place for place in unsure if not is_whole(values[place].as_py() or b"")} - {*decoded.doubtful}
    if not broken:
        return decoded
    whole = pa.array(~np.isin(decoded.places, [*broken]))
    doubtful = [*decoded.doubtful, *sorted(broken)]
    columns = [column.filter(whole) for column in decoded.columns]
    return Decoded(columns, _without(len(values), doubtful), doubtful, decoded.undeclared)


def _without(count: int, places: list[int]) -> Places:
    """Return the other places."""
    others = np.ones(count, bool)
    others[places] = False
    return np.flatnonzero(others)


def _with_texts(text: str, shape: Shape) -> Record:
    record, _ = _value(text, _blank(text, 0), shape)
    return record  # type: ignore[no-any-return]  # the text is an object


def _value(text: str, at: int, shape: Shape | None) -> tuple[Any, int]:
    """Return the value that begins there, and where it ends; the text is known to be JSON."""
    if not shape or (not shape.here and text[at] not in "{["):
        return PARSER.raw_decode(text, at)
    if shape.here:
        value, end = PARSER.raw_decode(text, at)
        return (None if value is None else Text(text[at:end])), end
    return (_object if text[at] == "{" else _array)(text, _blank(text, at + 1), shape)


def _object(text: str, at: int, shape: Shape) -> tuple[Record, int]:
    found: Record = {}
    while text[at] != "}":
        key, at = scanstring(text, at + 1, True)
        value, at = _value(text, _blank(text, _blank(text, at) + 1), shape.members.get(key, shape.each))
        found[key] = value
        at = _next(text, at)
    return found, at + 1


def _array(text: str, at: int, shape: Shape) -> tuple[list[Any], int]:
    found = []
    while text[at] != "]":
        value, at = _value(text, at, shape.each)
        found.append(value)
        at = _next(text, at)
    return found, at + 1


def _next(text: str, at: int) -> int:
    """Return where the next member begins, or the bracket that ends them is."""
    at = _blank(text, at)
    return _blank(text, at + 1) if text[at] == "," else at


def _blank(text: str, at: int) -> int:
    return _blanks(text, at).end()  # type: ignore[union-attr]  # it matches the empty text
