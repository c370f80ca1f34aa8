"""How numbers are decoded, judged and finished: floats, whole numbers and decimals, in JSON or sent as text. Pure."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream_app.contract.column import Column, or_reason
from stream_app.contract.plainly import Spelling, read_all
from stream_app.contract.scalars import number_of
from stream_app.contract.wire import Number, decimal_of
from stream_app.feeds.fields import Field


def float_(field: Field) -> Column:
    """Return the column of floats, each judged by the double that JSON has, which is then rounded."""
    return _floating(field, math.nextafter(_FLOAT_OVERFLOW, 0), lambda number: float(np.float32(number)) + 0.0)


def double(field: Field) -> Column:
    """Return the column of doubles."""
    return _floating(field, sys.float_info.max, lambda number: number + 0.0)


_FLOAT_OVERFLOW = (2 - 2**-24) * 2.0**127
"""The least double that is rounded to an infinite float."""


def _floating(field: Field, most: float, rounded: Callable[[float], float]) -> Column:
    least, greatest = map(float, field.number_range) if field.number_range else (-most, most)
    least, greatest = max(least, -most), min(greatest, most)
    kind = field.as_type.arrow

    def read(text: str) -> float | None:
        number = float(text)
        return rounded(number) if least <= number <= greatest else None

    def finish_all(numbers: pa.Array) -> pa.Array:
        return pc.add(numbers.cast(kind), pa.scalar(0.0, kind))  # -0.0 + 0.0 is 0.0

    def by_arrow(texts: pa.Array) -> pa.Array:
        return finish_all(between(texts.cast(pa.float64()), least, greatest))

    if field.text:
        return sent_as_text(read, kind, [(rf"\A-?{_WHOLE_15}(?:\.[0-9]{{1,15}})?\z", by_arrow)])
    decoded = Annotated[float, msgspec.Meta(ge=least, le=greatest)]
    return Column(decoded, Number, or_reason("out_of_range", read), pa.float64(), finish_all, is_final=True)


def whole(field: Field, bits: int) -> Column:
    """Return the column of whole numbers of so many bits."""
    least, greatest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if field.number_range:
        least, greatest = max(least, math.ceil(field.number_range[0])), min(greatest, math.floor(field.number_range[1]))

    def read(text: str) -> int | None:
        number = decimal_of(text, 19, 0)
        return int(number) if number is not None and least <= number <= greatest else None

    kind = field.as_type.arrow

    def by_arrow(texts: pa.Array) -> pa.Array:
        return between(texts.cast(pa.int64()), least, greatest).cast(kind)

    if field.text:
        return sent_as_text(read, kind, [(rf"\A-?{_WHOLE_15}\z", by_arrow)])
    decoded = Annotated[int, msgspec.Meta(ge=least, le=greatest)]
    return Column(decoded, Number, or_reason("out_of_range", read), kind, is_final=True)


_WHOLE_15 = "(?:0|[1-9][0-9]{0,14})"


def between(numbers: pa.Array, least: float, greatest: float) -> pa.Array:
    """Return the numbers, null where one is out of range."""
    fits = pc.and_(pc.greater_equal(numbers, least), pc.less_equal(numbers, greatest))
    return pc.if_else(fits, numbers, pa.nulls(len(numbers), numbers.type))


_ROOMY = Context(prec=76)


def decimal(field: Field) -> Column:
    """Return the column of decimals, exact in any number of digits."""
    precision, scale = field.precision_scale or (0, 0)
    least, greatest = field.number_range or (-math.inf, math.inf)
    kind = pa.decimal128(precision, scale)
    digits = f"(?:0|[1-9][0-9]{{0,{precision - scale - 1}}})"
    fraction = rf"(?:\.[0-9]{{1,{scale}}})?" if scale else ""
    # a decimal(2,2) has no whole digits but JSON writes one, and a bound may have no room in the type: left to `read`
    limit = 10 ** (precision - scale)
    has_room = precision > scale and -limit < least and greatest < limit if field.number_range else precision > scale

    def read(text: str) -> Decimal | None:
        number = decimal_of(text, precision, scale)
        return number if number is not None and least <= number <= greatest else None

    def by_arrow(wires: pa.Array) -> pa.Array:
        numbers = wires.cast(pa.string()).cast(kind)
        return _within(numbers, *field.number_range) if field.number_range else numbers

    spellings: list[Spelling] = [(rf"\A-?{digits}{fraction}\z", by_arrow)] if has_room else []
    if field.text:
        return sent_as_text(read, kind, spellings)

    def finish_all(wires: pa.Array) -> pa.Array:  # any JSON value: nobody has looked into a string yet
        return read_all(wires, kind, spellings, lambda wire: read(wire.decode(errors="replace")))

    # Raw, because msgspec's own Decimal also takes the string "12.5".
    return Column(msgspec.Raw, Number, or_reason("out_of_range", read), pa.binary(), finish_all)


def _within(numbers: pa.Array, least: Decimal, greatest: Decimal) -> pa.Array:
    """Return the numbers, null where one is out of range; both bounds have room in their type."""
    unit = Decimal(1).scaleb(-numbers.type.scale)
    for bound, rounding, compare in ((least, ROUND_CEILING, pc.greater_equal), (greatest, ROUND_FLOOR, pc.less_equal)):
        numbers = pc.if_else(compare(numbers, pa.scalar(bound.quantize(unit, rounding, _ROOMY))), numbers, None)
    return numbers


def sent_as_text(
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
