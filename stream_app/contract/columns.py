"""How values of each type that holds one are decoded, judged and finished: one, or a whole column at once. Pure.

A column that msgspec has decoded is finished by Arrow where its values are spelled as nearly all are, and one by one
where they are not. Both ways give the same values, and neither takes what `judge` refuses.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from functools import lru_cache, partial
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream_app.contract.codecs.codec import Text
from stream_app.contract.plainly import Spelling, read_all
from stream_app.contract.scalars import bytes_of, number_of, uuid_of, uuid_of_all
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
from stream_app.contract.wire import Number, decimal_of
from stream_app.feeds.fields import Field, anchored

Judge = Callable[[Any], Any]
"""A value of the right kind -> the row's value, or the reasons why not as a tuple."""


@dataclass(frozen=True)
class Column:
    """How one field that holds one value is decoded and judged.

    decoded: the type that msgspec decodes and checks.
    kind: the Python type of the JSON type that the field asks for; any other is bad_type.
    judge: JSON value of that kind -> the row's value, or the reasons why not. Timestamps are microseconds since the
    epoch, dates days since then.
    held: what decoded values are as Arrow.
    finish_all: those -> the rows' values, null where they are null or only `judge` can tell; None if they are the
    values.
    is_final: whether msgspec refuses all that `judge` does, so that `finish_all` adds no null.
    """

    decoded: Any
    kind: type
    judge: Judge
    held: pa.DataType
    finish_all: Callable[[pa.Array], pa.Array] | None = None
    is_final: bool = False

    @property
    def is_raw(self) -> bool:
        """Whether msgspec hands on the bytes of its values, into which it has not looked."""
        return self.decoded is msgspec.Raw

    @property
    def is_text(self) -> bool:
        """Whether a value of any kind is kept as its JSON text."""
        return self.kind is Text


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

    def judge(text: str) -> str | tuple[str, ...]:
        if not text.isascii() and SURROGATE.search(text):
            return ("bad_type",)
        reasons: tuple[str, ...] = () if shortest <= len(text) <= longest else ("out_of_range",)
        if (field.allowed is not None and text not in field.allowed) or (pattern and not one_fits(text)):
            reasons += ("not_allowed",)
        return reasons or text

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
    if field.format is None:
        return Column(str, str, _or("bad_time", microseconds_of), pa.string(), microseconds_of_all)
    if field.format == "date":
        return Column(str, str, _or("bad_time", midnight_of), pa.string(), midnight_of_all)
    read, read_all_of = epoch_reader(field.format), epoch_reader_all(field.format)
    if field.text:
        return _sent_as_text(read, pa.int64(), [], "bad_time")
    # Raw, because msgspec's floats would round.
    return Column(msgspec.Raw, Number, _or("bad_time", read), pa.binary(), read_all_of)


def _date(_: Field) -> Column:
    return Column(str, str, _or("bad_date", days_of), pa.string(), days_of_all)


def _uuid(_: Field) -> Column:
    return Column(str, str, _or("bad_uuid", uuid_of), pa.string(), uuid_of_all)


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


def _float(field: Field) -> Column:
    """Judge by the double that JSON has, which is then rounded to a float."""
    return _floating(field, math.nextafter(_FLOAT_OVERFLOW, 0), lambda number: float(np.float32(number)) + 0.0)


def _double(field: Field) -> Column:
    return _floating(field, sys.float_info.max, lambda number: number + 0.0)


_FLOAT_OVERFLOW = (2 - 2**-24) * 2.0**127
"""The least double that is rounded to an infinite float."""


def _floating(field: Field, most: float, rounded: Callable[[float], float]) -> Column:
    least, greatest = map(float, field.range) if field.range else (-most, most)
    least, greatest = max(least, -most), min(greatest, most)
    kind = field.as_type.arrow

    def read(text: str) -> float | None:
        number = float(text)
        return rounded(number) if least <= number <= greatest else None

    def finish_all(numbers: pa.Array) -> pa.Array:
        return pc.add(numbers.cast(kind), pa.scalar(0.0, kind))  # -0.0 + 0.0 is 0.0

    def by_arrow(texts: pa.Array) -> pa.Array:
        return finish_all(_between(texts.cast(pa.float64()), least, greatest))

    if field.text:
        return _sent_as_text(read, kind, [(rf"\A-?{_WHOLE_15}(?:\.[0-9]{{1,15}})?\z", by_arrow)])
    decoded = Annotated[float, msgspec.Meta(ge=least, le=greatest)]
    return Column(decoded, Number, _or("out_of_range", read), pa.float64(), finish_all, is_final=True)


def _whole(field: Field, bits: int) -> Column:
    least, greatest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if field.range:
        least, greatest = max(least, math.ceil(field.range[0])), min(greatest, math.floor(field.range[1]))

    def read(text: str) -> int | None:
        number = decimal_of(text, 19, 0)
        return int(number) if number is not None and least <= number <= greatest else None

    kind = field.as_type.arrow

    def by_arrow(texts: pa.Array) -> pa.Array:
        return _between(texts.cast(pa.int64()), least, greatest).cast(kind)

    if field.text:
        return _sent_as_text(read, kind, [(rf"\A-?{_WHOLE_15}\z", by_arrow)])
    decoded = Annotated[int, msgspec.Meta(ge=least, le=greatest)]
    return Column(decoded, Number, _or("out_of_range", read), kind, is_final=True)


_WHOLE_15 = "(?:0|[1-9][0-9]{0,14})"


def _between(numbers: pa.Array, least: float, greatest: float) -> pa.Array:
    """Return the numbers, null for those that are out of range."""
    fits = pc.and_(pc.greater_equal(numbers, least), pc.less_equal(numbers, greatest))
    return pc.if_else(fits, numbers, pa.nulls(len(numbers), numbers.type))


_ROOMY = Context(prec=76)


def _decimal(field: Field) -> Column:
    precision, scale = field.precision_scale or (0, 0)
    least, greatest = field.range or (-math.inf, math.inf)
    kind = pa.decimal128(precision, scale)
    whole = f"(?:0|[1-9][0-9]{{0,{precision - scale - 1}}})"
    fraction = rf"(?:\.[0-9]{{1,{scale}}})?" if scale else ""
    # a decimal(2,2) has no whole digits but JSON writes one, and a bound may have no room in the type: left to `read`
    limit = 10 ** (precision - scale)
    has_room = precision > scale and -limit < least and greatest < limit if field.range else precision > scale

    def read(text: str) -> Decimal | None:
        number = decimal_of(text, precision, scale)
        return number if number is not None and least <= number <= greatest else None

    def by_arrow(wires: pa.Array) -> pa.Array:
        numbers = wires.cast(pa.string()).cast(kind)
        return _within(numbers, *field.range) if field.range else numbers

    spellings: list[Spelling] = [(rf"\A-?{whole}{fraction}\z", by_arrow)] if has_room else []
    if field.text:
        return _sent_as_text(read, kind, spellings)

    def finish_all(wires: pa.Array) -> pa.Array:  # any JSON value: nobody has looked into a string yet
        return read_all(wires, kind, spellings, lambda wire: read(wire.decode(errors="replace")))

    # Raw, because msgspec's own Decimal also takes the string "12.5".
    return Column(msgspec.Raw, Number, _or("out_of_range", read), pa.binary(), finish_all)


def _within(numbers: pa.Array, least: Decimal, greatest: Decimal) -> pa.Array:
    """Return the numbers, null for those that are out of range; both bounds have room in their type."""
    unit = Decimal(1).scaleb(-numbers.type.scale)
    for bound, rounding, compare in ((least, ROUND_CEILING, pc.greater_equal), (greatest, ROUND_FLOOR, pc.less_equal)):
        numbers = pc.if_else(compare(numbers, pa.scalar(bound.quantize(unit, rounding, _ROOMY))), numbers, None)
    return numbers


def _sent_as_text(
    read: Callable[[str], Any], kind: pa.DataType, spellings: list[Spelling], reason: str = "out_of_range"
) -> Column:
    """Return the column of numbers that `read` reads, each in a JSON string."""

    def read_text(text: str) -> Any:
        number = number_of(text)
        return None if number is None else read(number)

    def judge(text: str) -> Any:
        number = number_of(text)
        value = None if number is None else read(number)
        return value if value is not None else ("bad_type" if number is None else reason,)

    return Column(str, str, judge, pa.string(), lambda texts: read_all(texts, kind, spellings, read_text))


def _or(reason: str, read: Callable[[str], Any]) -> Judge:
    def judge(text: str) -> Any:
        value = read(text)
        return (reason,) if value is None else value

    return judge


_COLUMNS: dict[str, Callable[[Field], Column]] = {
    "string": _string,
    "boolean": _boolean,
    "int": partial(_whole, bits=32),
    "long": partial(_whole, bits=64),
    "float": _float,
    "double": _double,
    "decimal": _decimal,
    "date": _date,
    "timestamp": _timestamp,
    "binary": _binary,
    "uuid": _uuid,
    "json": _json,
}
