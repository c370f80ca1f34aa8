"""How the columns of each type are decoded, judged and finished: a value, or a whole column at once. Pure; no pyspark.

A column that msgspec has decoded is finished by Arrow where its texts are spelled as nearly all are, and value by value
where they are not. Both ways give the same values, and neither takes what `judge` refuses.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from stream_app.contract.plainly import read_all
from stream_app.contract.times import microseconds_of, microseconds_of_all
from stream_app.contract.wire import Number, decimal_of
from stream_app.feeds.fields import Field, anchored

Value = str | int | float | bool | Decimal


@dataclass(frozen=True)
class Column:
    """How one field is decoded and judged.

    decoded: the type that msgspec decodes and checks.
    finish_all: decoded values -> the rows' values, timestamps as int64, null where only `judge` can tell; None if the
    decoded are the values.
    kind: the Python type of the JSON type that the field asks for; any other is bad_type.
    judge: JSON value of that kind -> the row's value, or the reasons why not.
    """

    decoded: Any
    finish_all: Callable[[Sequence[Any]], pa.Array] | None
    kind: type
    judge: Callable[[Any], Value | tuple[str, ...]]


def column_of(field: Field) -> Column:
    """The column of a declared field."""
    return _COLUMNS[field.type.partition("(")[0]](field)


def typed(values: Sequence[object], data_type: pa.DataType) -> pa.Array:
    """Values of rows, whose timestamps are microseconds since the epoch, as Arrow."""
    if pa.types.is_timestamp(data_type):
        return pa.array(values, pa.int64()).view(data_type)
    return pa.array(values, data_type)


def _string(field: Field) -> Column:
    shortest, longest = field.length or (0, sys.maxsize)
    pattern = anchored(field.pattern) if field.pattern else None

    def fits(texts: Sequence[str]) -> pa.Array:  # by RE2 both ways, whose time is linear in the text
        return pc.match_substring_regex(pa.array(texts, pa.string()), pattern)

    @lru_cache(maxsize=1_000)  # one alone costs as much as a hundred at once
    def short_one_fits(text: str) -> bool:
        return bool(fits([text])[0].as_py())

    def one_fits(text: str) -> bool:
        return short_one_fits(text) if len(text) <= _SHORT else bool(fits([text])[0].as_py())

    def judge(text: str) -> str | tuple[str, ...]:
        if _SURROGATE.search(text):
            return ("bad_type",)
        reasons: tuple[str, ...] = () if shortest <= len(text) <= longest else ("out_of_range",)
        if (field.allowed is not None and text not in field.allowed) or (pattern and not one_fits(text)):
            reasons += ("not_allowed",)
        return reasons or text

    def finish_all(texts: Sequence[str]) -> pa.Array:
        return pc.if_else(fits(texts), pa.array(texts, pa.string()), None)

    decoded: Any = Annotated[str, msgspec.Meta(min_length=shortest, max_length=longest)]
    if field.allowed:
        decoded = Literal[field.allowed]
    return Column(decoded, finish_all if pattern else None, str, judge)


_SHORT = 64
# Half of a pair is legal in JSON but is no character: neither UTF-8 nor Arrow can hold it.
_SURROGATE = re.compile("[\ud800-\udfff]")


def _boolean(_: Field) -> Column:
    return Column(bool, None, bool, lambda given: given)


_ROOMY = Context(prec=76)


def _timestamp(_: Field) -> Column:
    def finish_all(texts: Sequence[str]) -> pa.Array:
        return microseconds_of_all(pa.array(texts, pa.string()))

    return Column(str, finish_all, str, _or(("bad_time",), microseconds_of))


def _double(field: Field) -> Column:
    least, greatest = map(float, field.range) if field.range else (-sys.float_info.max, sys.float_info.max)

    def finish_all(numbers: Sequence[float]) -> pa.Array:
        return pc.add(pa.array(numbers, pa.float64()), 0.0)  # -0.0 + 0.0 is 0.0

    def read(text: str) -> float | None:
        number = float(text)
        return number + 0.0 if least <= number <= greatest else None

    decoded = Annotated[float, msgspec.Meta(ge=least, le=greatest)]
    return Column(decoded, finish_all, Number, _or(("out_of_range",), read))


def _long(field: Field) -> Column:
    least, greatest = -(2**63), 2**63 - 1
    if field.range:
        least, greatest = max(least, math.ceil(field.range[0])), min(greatest, math.floor(field.range[1]))

    def read(text: str) -> int | None:
        number = decimal_of(text, 19, 0)
        return int(number) if number is not None and least <= number <= greatest else None

    decoded = Annotated[int, msgspec.Meta(ge=least, le=greatest)]
    return Column(decoded, None, Number, _or(("out_of_range",), read))


def _decimal(field: Field) -> Column:
    precision, scale = field.precision_scale or (0, 0)
    least, greatest = field.range or (-math.inf, math.inf)
    kind = pa.decimal128(precision, scale)
    whole, fraction = f"[0-9]{{1,{precision - scale}}}", rf"(?:\.[0-9]{{1,{scale}}})?" if scale else ""
    # a decimal(2,2) has no whole digits but JSON writes one, and a bound may have no room in the type: left to `read`
    limit = 10 ** (precision - scale)
    has_room = precision > scale and -limit < least and greatest < limit if field.range else precision > scale

    def read(text: str) -> Decimal | None:
        number = decimal_of(text, precision, scale)
        return number if number is not None and least <= number <= greatest else None

    def by_arrow(wires: pa.Array) -> pa.Array:
        numbers = wires.cast(pa.string()).cast(kind)
        return _within(numbers, *field.range) if field.range else numbers

    spellings = [(rf"\A-?{whole}{fraction}\z", by_arrow)] if has_room else []

    def finish_all(raws: Sequence[msgspec.Raw]) -> pa.Array:
        wires = pa.array(list(map(bytes, raws)), pa.binary())  # any JSON value: nobody has looked into a string yet
        return read_all(wires, kind, spellings, lambda wire: read(wire.decode(errors="replace")))

    # Raw, because msgspec's own Decimal also takes the string "12.5".
    return Column(msgspec.Raw, finish_all, Number, _or(("out_of_range",), read))


def _within(numbers: pa.Array, least: Decimal, greatest: Decimal) -> pa.Array:
    """Null for those that are out of range; both bounds have room in the numbers' type."""
    unit = Decimal(1).scaleb(-numbers.type.scale)
    for bound, rounding, compare in ((least, ROUND_CEILING, pc.greater_equal), (greatest, ROUND_FLOOR, pc.less_equal)):
        numbers = pc.if_else(compare(numbers, pa.scalar(bound.quantize(unit, rounding, _ROOMY))), numbers, None)
    return numbers


def _or(reasons: tuple[str, ...], read: Callable[[str], Value | None]) -> Callable[[str], Value | tuple[str, ...]]:
    def judge(text: str) -> Value | tuple[str, ...]:
        value = read(text)
        return reasons if value is None else value

    return judge


_COLUMNS: dict[str, Callable[[Field], Column]] = {
    "string": _string,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "double": _double,
    "long": _long,
    "decimal": _decimal,
}
