"""How values of each type that holds one are decoded, judged and finished: one, or a whole column at once. Pure.

Arrow finishes a column that msgspec has decoded, where its values are spelled as nearly all are. Others are finished
one by one. Both ways give the same values, and neither takes what `judge` refuses.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from stream_app.contract import numbers
from stream_app.contract.codecs.codec import Text
from stream_app.contract.column import Column, or_reason
from stream_app.contract.numbers import between, sent_as_text
from stream_app.contract.plainly import read_all
from stream_app.contract.scalars import bytes_of, uuid_of, uuid_of_all
from stream_app.contract.times import (
    days_of,
    days_of_all,
    epoch_reader,
    epoch_reader_all,
    microseconds_of,
    microseconds_of_all,
    midnight_of,
    midnight_of_all,
)
from stream_app.contract.wire import Number
from stream_app.feeds.field_keys import anchored
from stream_app.feeds.fields import Field


def column_of(field: Field) -> Column:
    """Return the column of a declared field that holds one value."""
    return _COLUMNS[field.type.partition("(")[0]](field)


def _string(field: Field) -> Column:
    shortest, longest = field.length or (0, sys.maxsize)
    pattern = anchored(field.pattern) if field.pattern else None

    def fits(texts: pa.Array) -> pa.Array:  # by RE2 both ways, whose time is linear in the text
        return pc.match_substring_regex(texts, pattern)

    @lru_cache(maxsize=1_000)  # one alone costs as much as a hundred at once
    def short_one_fits(text: str) -> bool:
        return bool(fits(pa.array([text]))[0].as_py())

    def one_fits(text: str) -> bool:
        return short_one_fits(text) if len(text) <= _SHORT else bool(fits(pa.array([text]))[0].as_py())

    allowed = None if field.allowed is None else frozenset(field.allowed)

    def judge(text: str) -> str | tuple[str, ...]:
        if not text.isascii() and SURROGATE.search(text):
            return ("bad_type",)
        has_room = shortest <= len(text) <= longest
        is_allowed = (allowed is None or text in allowed) and (pattern is None or one_fits(text))
        if has_room and is_allowed:
            return text
        return ("out_of_range",) * (not has_room) + ("not_allowed",) * (not is_allowed)

    def finish_all(texts: pa.Array) -> pa.Array:
        return pc.if_else(fits(texts), texts, pa.nulls(len(texts), pa.string()))

    decoded: Any = Annotated[str, msgspec.Meta(min_length=shortest, max_length=longest)]
    if field.allowed:
        decoded = Literal[field.allowed]
    return Column(decoded, str, judge, pa.string(), finish_all if pattern else None, is_final=not pattern)


_SHORT = 64
SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a pair, which is legal in JSON but is no character: neither UTF-8 nor Arrow can hold it."""


def _boolean(_: Field) -> Column:
    return Column(bool, bool, lambda given: given, pa.bool_(), is_final=True)


def _timestamp(field: Field) -> Column:
    return _in_range(_any_timestamp(field), field.time_range)


def _any_timestamp(field: Field) -> Column:
    if field.format is None:
        return Column(str, str, or_reason("bad_time", microseconds_of), pa.string(), microseconds_of_all)
    if field.format == "date":
        return Column(str, str, or_reason("bad_time", midnight_of), pa.string(), midnight_of_all)
    read, read_all_of = epoch_reader(field.format), epoch_reader_all(field.format)
    if field.text:
        return sent_as_text(read, pa.int64(), [], "bad_time")
    # Raw, because msgspec's floats would round.
    return Column(msgspec.Raw, Number, or_reason("bad_time", read), pa.binary(), read_all_of)


def _date(field: Field) -> Column:
    column = Column(str, str, or_reason("bad_date", days_of), pa.string(), days_of_all)
    return _in_range(column, field.time_range)


def _in_range(column: Column, bounds: tuple[int, int] | None) -> Column:
    """Return the column with values from the one to the other alone, both allowed."""
    finish_all = column.finish_all
    if bounds is None or finish_all is None:
        return column
    least, greatest = bounds

    def judge(given: Any) -> Any:
        value = column.judge(given)
        return value if isinstance(value, tuple) or least <= value <= greatest else ("out_of_range",)

    return replace(column, judge=judge, finish_all=lambda held: between(finish_all(held), least, greatest))


def _uuid(_: Field) -> Column:
    return Column(str, str, or_reason("bad_uuid", uuid_of), pa.string(), uuid_of_all)


def _binary(field: Field) -> Column:
    shortest, longest = field.length or (0, sys.maxsize)

    def judge(text: str) -> bytes | tuple[str, ...]:
        value = bytes_of(text)
        if value is None:
            return ("bad_base64",)
        return value if shortest <= len(value) <= longest else ("out_of_range",)

    decoded = Annotated[bytes, msgspec.Meta(min_length=shortest, max_length=longest)]
    return Column(decoded, str, judge, pa.binary(), is_final=True)


def _json(_: Field) -> Column:
    def finish_all(values: pa.Array) -> pa.Array:
        try:
            return values.cast(pa.string())
        except pa.ArrowInvalid:  # one is no UTF-8
            return read_all(values, pa.string(), [], _utf8)

    return Column(msgspec.Raw, Text, str, pa.binary(), finish_all)


def _utf8(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


_COLUMNS: dict[str, Callable[[Field], Column]] = {
    "string": _string,
    "boolean": _boolean,
    "int": partial(numbers.whole, bits=32),
    "long": partial(numbers.whole, bits=64),
    "float": numbers.float_,
    "double": numbers.double,
    "decimal": numbers.decimal,
    "date": _date,
    "timestamp": _timestamp,
    "binary": _binary,
    "uuid": _uuid,
    "json": _json,
}
