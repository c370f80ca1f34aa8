"""What is on the wire, read exactly: JSON, and the numbers in it. Pure, safe on bytes of any kind."""

from __future__ import annotations

import json
import re
from decimal import Context, Decimal
from typing import Never

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Places = npt.NDArray[np.int64]

# JSON decoders recurse, so how deep they get depends on the stack that they are called on. This limit does not.
_LEVELS = 100
_QUOTE = ord('"')
_OTHERS = bytes(set(range(256)) - set(b'[]{}"'))
_STEPS = np.zeros(256, np.int8)
_STEPS[[*b"[{"]], _STEPS[[*b"]}"]] = 1, -1
_PIECE = 1 << 16
"""So many bytes are small enough for a core's own cache."""
_BRACE_OF_BRACKET = ord("{") ^ ord("[")  # one bit


def is_too_deep(value: bytes) -> bool:
    """Whether JSON nests more than 100 levels, in one pass.

    What it says of bytes that are no JSON holds up to the first mistake in them, where every parser stops.
    """
    if value.count(b"{") + value.count(b"[") <= _LEVELS:
        return False
    # without escapes, each quote begins or ends a string
    signs = np.frombuffer(value.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _OTHERS), np.uint8)
    depth, in_string = 0, False
    for start in range(0, len(signs), _PIECE):  # which bounds the memory
        piece = signs[start : start + _PIECE]
        strings = np.logical_xor.accumulate(piece == _QUOTE) ^ in_string
        levels = depth + np.cumsum(np.where(strings, 0, _STEPS[piece]), dtype=np.int64)
        if levels.max() > _LEVELS:
            return True
        depth, in_string = int(levels[-1]), bool(strings[-1])
    return False


def is_whole(value: bytes) -> bool:
    """Whether the bytes are UTF-8 and, as JSON, not too deep, also where a decoder skips what it does not need."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return not is_too_deep(value)


def may_not_be_whole(values: pa.Array, objects: int) -> Places:
    """Return the places of binary values for which `is_whole` may be false, at a glance: most are JSON objects."""
    return np.union1d(np.array(_not_utf8(values, 0), np.int64), _with_many_brackets(values, objects))


def _not_utf8(values: pa.Array, first: int) -> list[int]:
    """Return the places of what is no text, counted from `first`: a half that is all text is looked at once."""
    try:
        values.cast(pa.string())
    except pa.ArrowInvalid:
        half = len(values) // 2
        return [*_not_utf8(values[:half], first), *_not_utf8(values[half:], first + half)] if half else [first]
    return []


def _with_many_brackets(values: pa.Array, objects: int) -> Places:
    _, offsets, data = values.buffers()
    bounds = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    signs = np.frombuffer(data or b"", np.uint8)[bounds[0] : bounds[-1]]
    pieces = (signs[start : start + _PIECE] for start in range(0, len(signs), _PIECE))
    if sum(map(np.count_nonzero, map(_brackets, pieces))) - objects < _LEVELS:
        return np.empty(0, np.int64)  # each of the objects has one bracket at least
    found = np.flatnonzero(_brackets(signs))
    return np.flatnonzero(np.diff(np.searchsorted(found, bounds - bounds[0])) > _LEVELS)


def _brackets(signs: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return which of the signs open an object or an array."""
    opens: npt.NDArray[np.bool_] = signs | _BRACE_OF_BRACKET == ord("{")
    return opens


class Number(str):
    """A JSON number as it is spelled: no limit on digits, nothing rounded before its column is known."""

    __slots__ = ()


def _refuse(constant: str) -> Never:
    raise ValueError(constant)


PARSER = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=_refuse)


def json_of(value: bytes) -> object:
    """Parse UTF-8 JSON that is not too deep, numbers as Number; ValueError for anything else, NaN and a BOM too."""
    return PARSER.decode(value.decode())


_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?)0*+([0-9]*))?")
_ROOMY = Context(prec=38)
_UNITS = tuple(Decimal((0, (1,), -scale)) for scale in range(39))


def decimal_of(text: str, precision: int, scale: int) -> Decimal | None:
    """Return the decimal(precision, scale) that equals a JSON number; None if none does.

    None is also for a text that is no number.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction, exponent_sign, exponent = match.groups("")
    if exponent or len(fraction) > scale or len(whole) > precision - scale:
        digits = (whole + fraction).lstrip("0")
        significant = digits.rstrip("0")
        if not significant:
            text = "0"
        elif len(exponent) > 9:  # more than the digits of any text can make up for
            return None
        else:
            power = int(exponent_sign + (exponent or "0")) - len(fraction) + len(digits) - len(significant)
            if power < -scale or len(significant) + power > precision - scale:
                return None
            text = f"{sign}{significant}e{power}"
    number = Decimal(text) or Decimal(0)  # no -0.00
    return number.quantize(_UNITS[scale], context=_ROOMY)
