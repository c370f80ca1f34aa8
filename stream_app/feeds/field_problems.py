"""What is wrong with the declaration of a field: rules that do not fit its type, empty ranges, wrong defaults."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal

import pyarrow as pa
import pyarrow.compute as pc

from stream_app.feeds.field_keys import anchored
from stream_app.feeds.fields import NUMBERS, Field
from stream_app.feeds.parts import quoted

LARGEST_FLOAT = math.nextafter((2 - 2**-24) * 2.0**127, 0)
"""The greatest double that is rounded to a float and not to infinity."""
_FITTING = {
    "length": frozenset({"string", "binary", "array", "map"}),
    "range": NUMBERS | {"date", "timestamp"},
    "allowed": frozenset({"string"}),
    "pattern": frozenset({"string"}),
    "text": NUMBERS | {"timestamp"},
    "format": frozenset({"timestamp"}),
}
_DEFAULTS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    **dict.fromkeys(("int", "long"), (int,)),
    **dict.fromkeys(("float", "double", "decimal"), (int, Decimal)),
    "date": (date,),
    "timestamp": (datetime,),
}
_BOUNDS: dict[str, type] = {"date": date, "timestamp": datetime}
"""What a bound of their range is; all others have numbers."""
_A = {"array": "an array", "map": "a map", "struct": "a struct"}
_ROOMY = Context(prec=1000, Emin=MIN_EMIN, Emax=MAX_EMAX)


def problems(fields: Mapping[str, Field]) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong with it) for the fields of one object: each alone, and their paths together."""
    taken: dict[tuple[str, ...], str] = {}
    for name, field in fields.items():
        path = field.path or (name,)
        for other, owner in taken.items():
            if other[: len(path)] == path[: len(other)]:
                shown, also = quoted(".".join(path)), quoted(".".join(other))
                same = f"{shown} is the path of {owner} too"
                yield (
                    f"{name}.path",
                    same if path == other else f"{shown} and {owner}'s {also} are one inside the other",
                )
        taken[path] = name
        yield from ((f"{name}.{rule}", problem) for rule, problem in problems_of(field))


def problems_of(field: Field) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong with it) for every key that cannot be kept as it is, nested ones too."""
    yield from _nesting_problems(field)
    for rule, fitting in _FITTING.items():
        if getattr(field, rule) not in (None, False) and field.type.partition("(")[0] not in fitting:
            yield rule, f"is not a rule for a {field.type} field"
    if field.length and not 0 <= field.length[0] <= field.length[1]:
        yield "length", "is not [least, greatest]"
    yield from _range_problems(field)
    if field.allowed is not None and (not field.allowed or field.length or field.pattern):
        yield "allowed", "lists the values, at least one, and goes without length and pattern"
    if field.text and field.type == "timestamp" and not str(field.format).startswith("epoch"):
        yield "text", "is for numbers; a timestamp is one by format"
    if field.default is not None and (problem := _default_problem(field)):
        yield "default", problem


def _range_problems(field: Field) -> Iterator[tuple[str, str]]:
    wanted = _BOUNDS.get(field.type, Decimal)
    odd = [bound for bound in field.range or () if type(bound) is not wanted]
    bounds = field.number_range or field.time_range
    if odd and field.type.partition("(")[0] in _FITTING["range"]:
        yield "range", f"{odd[0]} is no {field.type}"
    elif bounds and bounds[0] > bounds[1]:
        yield "range", "is not [least, greatest]"
    elif field.is_number and field.number_range and not _has_a_value_in(field, *field.number_range):
        yield "range", f"holds no {field.type}"


def _nesting_problems(field: Field) -> Iterator[tuple[str, str]]:
    for key, kind in (("element", "array"), ("value", "map"), ("fields", "struct")):
        if (getattr(field, key) is None) == (field.type == kind):
            yield key, f"is missing: what {_A[kind]} holds" if field.type == kind else f"is only for {_A[kind]}"
    for key in ("element", "value"):
        inner = getattr(field, key)
        yield from ((f"{key}.{rule}", problem) for rule, problem in problems_of(inner)) if inner else ()
        if inner and inner.path is not None:
            yield f"{key}.path", "is for what has a name"
    if field.fields is not None:
        if not field.fields:
            yield "fields", "is empty"
        yield from ((f"fields.{rule}", problem) for rule, problem in problems(field.fields))


def _default_problem(field: Field) -> str | None:
    """Return why a row cannot have the default. It keeps the rules of the field, too."""
    given, kind = field.default, field.type.partition("(")[0]
    if kind not in _DEFAULTS or type(given) not in _DEFAULTS[kind]:
        return f"{quoted(given)} is no default for a {field.type} field"
    if isinstance(given, str):
        fits = field.allowed is None or given in field.allowed
        fits = fits and (field.length is None or field.length[0] <= len(given) <= field.length[1])
        if field.pattern and fits:
            fits = pc.match_substring_regex(pa.array([given]), anchored(field.pattern))[0].as_py()
        return None if fits else "breaks the rules of the field"
    if isinstance(given, date) and field.time_range:
        least_time, greatest_time = field.time_range
        return None if least_time <= field.as_time(given) <= greatest_time else "breaks the rules of the field"
    if isinstance(given, int | Decimal) and not isinstance(given, bool):
        number = Decimal(given)
        least, greatest = field.number_range or (number, number)
        if not least <= number <= greatest or not _has_a_value_in(field, number, number):
            return "breaks the rules of the field"
    return None


def _has_a_value_in(field: Field, least: Decimal, greatest: Decimal) -> bool:
    if field.type in {"float", "double"}:
        most = LARGEST_FLOAT if field.type == "float" else sys.float_info.max
        return float(least) <= most and float(greatest) >= -most
    precision, scale = field.precision_scale or (0, 0)
    most = 10**precision - 1 if precision else 2 ** (31 if field.type == "int" else 63) - 1  # of the last decimal
    low, high = (min(max(bound.scaleb(scale, _ROOMY), -most - 1), most + 1) for bound in (least, greatest))
    first, last = max(math.ceil(low), -most - (not precision)), min(math.floor(high), most)
    return bool(first <= last)
