"""The fields of a feed file: what a record must hold, and the column that each becomes. No pyspark here."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BeforeValidator, StringConstraints, WithJsonSchema

from stream_app.feeds import types
from stream_app.feeds.parts import Frozen, quoted

# A sum has ten digits more, and Spark's decimals have 38.
_SUMMABLE_DIGITS = 28
_WIDE_SUM = 2**31
_ROOMY = Context(prec=1000, Emin=MIN_EMIN, Emax=MAX_EMAX)


def anchored(pattern: str) -> str:
    """Return the pattern for a search, so that the whole text must match it."""
    return rf"\A(?:{pattern})\z"


def _pattern(value: str) -> str:
    for pattern in (value, anchored(value)):
        try:
            pc.match_substring_regex(pa.array([""]), pattern)
        except pa.ArrowInvalid as error:
            cause = str(error).partition(": ")[2].removesuffix(f": {pattern}")
            raise ValueError(f"{quoted(value)} is no regular expression that RE2 takes: {cause}") from None
    return value


def _steps(value: object) -> object:
    return value.split(".") if isinstance(value, str) else value


def _digits(name: str) -> str:
    precision, scale = types.precision_scale(name) or (1, 0)
    if not scale <= precision <= 38 or precision < 1:
        raise ValueError(f"{name} is not a decimal of 1 to 38 digits")
    return name


TypeName = Annotated[
    str,
    StringConstraints(pattern=r"^(string|timestamp|double|long|boolean|decimal\([0-9]{1,2},[0-9]{1,2}\))$"),
    AfterValidator(_digits),
]
# Needs no escape in JSON, which is what msgspec asks of a Struct's names.
Name = Annotated[str, StringConstraints(pattern=r'^[^"\\\x00-\x1f]{1,128}$')]
Path = Annotated[
    tuple[Name, ...],
    BeforeValidator(_steps),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
]


class Field(Frozen):
    """One required, non-null field: its type, where a record has it, and its rules."""

    type: TypeName
    """string, timestamp, double, long, boolean or decimal(p,s)."""
    path: Path | None = None
    """Where the record has it; without it the column's own name. Where a name has a dot, an array of names."""
    length: tuple[int, int] | None = None
    """Fewest and most characters of a string, both allowed."""
    range: tuple[Decimal, Decimal] | None = None
    """Least and greatest number, both allowed."""
    allowed: tuple[str, ...] | None = None
    """The only strings allowed; without `length` and `pattern`."""
    pattern: Annotated[str, AfterValidator(_pattern)] | None = None
    """A regular expression (RE2) that the whole string matches."""

    @property
    def as_type(self) -> types.Type:
        """The row of its type, which has its name in every dialect."""
        return types.scalar(self.type)

    @property
    def precision_scale(self) -> tuple[int, int] | None:
        """The p and s of decimal(p,s); None for every other type."""
        return types.precision_scale(self.type)

    @property
    def is_number(self) -> bool:
        """Whether the column holds numbers, which a range and the measures ask for."""
        return self.as_type.json == "number"

    def spelled(self) -> dict[str, object]:
        """Return the declaration for digests that are kept on disk.

        What version 0.1.0 could declare is spelled as it did, so that an upgrade changes no digest.
        """
        said = self.model_dump(mode="json")
        path = said.pop("path")
        wire = path[0] if path and len(path) == 1 else path
        return {"type": said.pop("type"), "wire": wire, **said}

    def overflow(self, function: str) -> str | None:
        """Why two valid records could be too much for that measure, and the batch that has them fail for ever."""
        precision, _ = self.precision_scale or (0, 0)
        if precision > _SUMMABLE_DIGITS and function in {"sum", "avg"}:
            return f"has {precision} digits; of more than {_SUMMABLE_DIGITS} a {function} may have more than 38"
        return None

    def sum_is_wide(self, function: str) -> bool:
        """Whether the measure is a sum of longs that may be more than a long, so that it is a decimal(38,0).

        A sum of 2^32 records that are less than 2^31 each has room in a long.
        """
        is_sum = self.type == "long" and function == "sum"
        return is_sum and (self.range is None or max(map(abs, self.range)) >= _WIDE_SUM)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (rule, what is wrong with it) for every rule that cannot be kept as it stands."""
        for rule in ("length", "range", "allowed", "pattern"):
            fits = self.is_number if rule == "range" else self.type == "string"
            if getattr(self, rule) is not None and not fits:
                yield rule, f"is not a rule for a {self.type} field"
        for rule, bounds in (("length", self.length), ("range", self.range)):
            if bounds and (bounds[0] > bounds[1] or (rule == "length" and bounds[0] < 0)):
                yield rule, "is not [least, greatest]"
        if self.range and self.range[0] <= self.range[1] and not self._has_a_value_in(*self.range):
            yield "range", f"holds no {self.type}"
        if self.allowed is not None and (not self.allowed or self.length or self.pattern):
            yield "allowed", "lists the values, at least one, and goes without length and pattern"
        if self.path is not None and len(self.path) != 1:
            yield "path", "descends, which is not read yet"

    def _has_a_value_in(self, least: Decimal, greatest: Decimal) -> bool:
        if self.type == "double":
            return float(least) <= sys.float_info.max and float(greatest) >= -sys.float_info.max
        precision, scale = self.precision_scale or (0, 0)
        most = 10**precision - 1 if precision else 2**63 - 1  # in units of the last decimal
        low, high = (min(max(bound.scaleb(scale, _ROOMY), -most - 1), most + 1) for bound in (least, greatest))
        first, last = max(math.ceil(low), -most - (self.type == "long")), min(math.floor(high), most)
        return first <= last
