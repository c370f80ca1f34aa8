"""The fields of a feed file: what a record must hold, and the column that each becomes. No pyspark here."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal

import pyarrow as pa
import pyarrow.compute as pc

from stream_app.feeds import types
from stream_app.feeds.field_keys import Bound, Default, Format, Path, Pattern, TypeName, anchored
from stream_app.feeds.parts import ColumnName, Frozen, quoted

# A sum has ten digits more, and Spark's decimals have 38.
_SUMMABLE_DIGITS = 28
LARGEST_FLOAT = math.nextafter((2 - 2**-24) * 2.0**127, 0)
"""The greatest double that is rounded to a float and not to infinity."""
_NUMBERS = frozenset({"int", "long", "float", "double", "decimal"})
_FITTING = {
    "length": frozenset({"string", "binary", "array", "map"}),
    "range": _NUMBERS | {"date", "timestamp"},
    "allowed": frozenset({"string"}),
    "pattern": frozenset({"string"}),
    "text": _NUMBERS | {"timestamp"},
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
_NEWER = {"required", "default", "text", "format", "references"}
"""What version 0.1.0 could not declare."""
_BOUNDS: dict[str, type] = {"date": date, "timestamp": datetime}
"""What a bound of their range is; all others have numbers."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_A = {"array": "an array", "map": "a map", "struct": "a struct"}
_ROOMY = Context(prec=1000, Emin=MIN_EMIN, Emax=MAX_EMAX)


class Field(Frozen):
    """One field: its type, where a record has it, whether it must, and its rules."""

    type: TypeName
    """A scalar type (docs/feeds.md#types), array, map or struct."""
    path: Path | None = None
    """Where the record has it; without it the column's name. Dots descend. Where a name has one, an array of names."""
    length: tuple[int, int] | None = None
    """Fewest and most characters, bytes, elements or members, both allowed."""
    range: tuple[Bound, Bound] | None = None
    """Least and greatest number, date or time, both allowed."""
    allowed: tuple[str, ...] | None = None
    """The only strings allowed; without `length` and `pattern`."""
    pattern: Pattern | None = None
    """A regular expression (RE2) that the whole string matches."""
    required: bool = True
    """Whether a record must have it, and not null."""
    default: Default = None
    """What a row has where the record has none or null."""
    references: ColumnName | None = None
    """The lookup that must have its value as a key, else the record is `unknown:<path>`."""
    text: bool = False
    """Whether the number is sent as text, in a JSON string."""
    format: Format | None = None
    """How a timestamp is written that is no ISO-8601 text: a number since 1970, or a date."""
    element: Field | None = None
    """What each element of an array is."""
    value: Field | None = None
    """What each value of a map is; its keys are texts."""
    fields: dict[ColumnName, Field] | None = None
    """What a struct holds."""

    @property
    def as_type(self) -> types.Type:
        """The row of its type, which has its name in every dialect."""
        if self.type == "array":
            return types.array(self.inner.as_type)
        if self.type == "map":
            return types.mapping(self.inner.as_type)
        if self.type == "struct":
            return types.struct({name: field.as_type for name, field in (self.fields or {}).items()})
        return types.scalar(self.type)

    @property
    def is_nested(self) -> bool:
        """Whether its values hold other values."""
        return self.type in _A

    @property
    def inner(self) -> Field:
        """What each element of an array or each value of a map is."""
        found = self.element or self.value
        if found is None:
            raise TypeError(self.type)
        return found

    @property
    def is_optional(self) -> bool:
        """Whether a record may come without it."""
        return not self.required or self.default is not None

    @property
    def precision_scale(self) -> tuple[int, int] | None:
        """The p and s of decimal(p,s); None for every other type."""
        return types.precision_scale(self.type)

    @property
    def is_number(self) -> bool:
        """Whether the column holds numbers, which a range and the measures ask for."""
        return self.type.partition("(")[0] in _NUMBERS

    @property
    def tells_apart(self) -> bool:
        """Whether rows can be counted by it: it has one value, and that has one form."""
        return not self.is_nested and self.type != "json"

    @property
    def has_order(self) -> bool:
        """Whether one of two values is the least, which is so for numbers, times and texts."""
        return self.is_number or self.type in {"string", "uuid", "date", "timestamp"}

    @property
    def number_range(self) -> tuple[Decimal, Decimal] | None:
        """The range of numbers; None for every other type."""
        least, greatest = self.range or (None, None)
        return (least, greatest) if isinstance(least, Decimal) and isinstance(greatest, Decimal) else None

    @property
    def time_range(self) -> tuple[int, int] | None:
        """The range of a timestamp in microseconds since the epoch, or of a date in days; None for other types."""
        if self.range is None or self.is_number:
            return None
        least, greatest = map(self._as_time, self.range)
        return least, greatest

    def _as_time(self, bound: object) -> int:
        """Return a date or time as rows have it. Without an offset a time is in UTC."""
        if isinstance(bound, datetime):
            return microseconds_since(bound)
        return bound.toordinal() - _EPOCH.toordinal() if isinstance(bound, date) else 0

    def spelled(self) -> dict[str, object]:
        """Return the declaration for digests that are kept on disk.

        What version 0.1.0 could declare is spelled as it did, so that an upgrade changes no digest.
        """
        said = self.model_dump(mode="json", include={"length", "range", "allowed", "pattern"})
        wire = self.path[0] if self.path and len(self.path) == 1 else self.path
        newer = self.model_dump(mode="json", include=_NEWER, exclude_defaults=True)
        nested = {key: field.spelled() for key in ("element", "value") if (field := getattr(self, key))}
        if self.fields is not None:
            nested["fields"] = {name: field.spelled() for name, field in self.fields.items()}
        return {"type": self.type, "wire": wire, **said, **newer, **nested}

    def overflow(self, function: str) -> str | None:
        """Why two valid records could be too much for that measure, and the batch that has them fail for ever."""
        precision, _ = self.precision_scale or (0, 0)
        if precision > _SUMMABLE_DIGITS and function in {"sum", "avg"}:
            return f"has {precision} digits; of more than {_SUMMABLE_DIGITS} a {function} may have more than 38"
        return None

    def sum_is_wide(self, function: str, records: int = 2**32) -> bool:
        """Whether the measure is a sum of so many longs that may be more than a long, so that it is a decimal(38,0).

        A sum of 2^32 records that are less than 2^31 each has room in a long. An int is at most that.
        """
        if function != "sum" or self.type not in {"int", "long"}:
            return False
        most = max(map(abs, self.number_range)) if self.number_range else 2 ** (63 if self.type == "long" else 31) - 1
        return most >= 2**63 // records

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, what is wrong with it) for every key that cannot be kept as it is, nested ones too."""
        yield from self._nesting_problems()
        for rule, fitting in _FITTING.items():
            if getattr(self, rule) not in (None, False) and self.type.partition("(")[0] not in fitting:
                yield rule, f"is not a rule for a {self.type} field"
        if self.length and not 0 <= self.length[0] <= self.length[1]:
            yield "length", "is not [least, greatest]"
        yield from self._range_problems()
        if self.allowed is not None and (not self.allowed or self.length or self.pattern):
            yield "allowed", "lists the values, at least one, and goes without length and pattern"
        if self.text and self.type == "timestamp" and not str(self.format).startswith("epoch"):
            yield "text", "is for numbers; a timestamp is one by format"
        if self.default is not None and (problem := self._default_problem()):
            yield "default", problem

    def _range_problems(self) -> Iterator[tuple[str, str]]:
        wanted = _BOUNDS.get(self.type, Decimal)
        odd = [bound for bound in self.range or () if type(bound) is not wanted]
        bounds = self.number_range or self.time_range
        if odd and self.type.partition("(")[0] in _FITTING["range"]:
            yield "range", f"{odd[0]} is no {self.type}"
        elif bounds and bounds[0] > bounds[1]:
            yield "range", "is not [least, greatest]"
        elif self.is_number and self.number_range and not self._has_a_value_in(*self.number_range):
            yield "range", f"holds no {self.type}"

    def _nesting_problems(self) -> Iterator[tuple[str, str]]:
        for key, kind in (("element", "array"), ("value", "map"), ("fields", "struct")):
            if (getattr(self, key) is None) == (self.type == kind):
                yield key, f"is missing: what {_A[kind]} holds" if self.type == kind else f"is only for {_A[kind]}"
        for key in ("element", "value"):
            field = getattr(self, key)
            yield from ((f"{key}.{rule}", problem) for rule, problem in field.problems()) if field else ()
            if field and field.path is not None:
                yield f"{key}.path", "is for what has a name"
        if self.fields is not None:
            if not self.fields:
                yield "fields", "is empty"
            yield from ((f"fields.{rule}", problem) for rule, problem in problems(self.fields))

    def _default_problem(self) -> str | None:
        """Return why a row cannot have the default. It keeps the rules of the field, too."""
        given, kind = self.default, self.type.partition("(")[0]
        if kind not in _DEFAULTS or type(given) not in _DEFAULTS[kind]:
            return f"{quoted(given)} is no default for a {self.type} field"
        if isinstance(given, str):
            fits = self.allowed is None or given in self.allowed
            fits = fits and (self.length is None or self.length[0] <= len(given) <= self.length[1])
            if self.pattern and fits:
                fits = pc.match_substring_regex(pa.array([given]), anchored(self.pattern))[0].as_py()
            return None if fits else "breaks the rules of the field"
        if isinstance(given, date) and self.time_range:
            least_time, greatest_time = self.time_range
            return None if least_time <= self._as_time(given) <= greatest_time else "breaks the rules of the field"
        if isinstance(given, int | Decimal) and not isinstance(given, bool):
            number = Decimal(given)
            least, greatest = self.number_range or (number, number)
            if not least <= number <= greatest or not self._has_a_value_in(number, number):
                return "breaks the rules of the field"
        return None

    def _has_a_value_in(self, least: Decimal, greatest: Decimal) -> bool:
        if self.type in {"float", "double"}:
            most = LARGEST_FLOAT if self.type == "float" else sys.float_info.max
            return float(least) <= most and float(greatest) >= -most
        precision, scale = self.precision_scale or (0, 0)
        most = 10**precision - 1 if precision else 2 ** (31 if self.type == "int" else 63) - 1  # of the last decimal
        low, high = (min(max(bound.scaleb(scale, _ROOMY), -most - 1), most + 1) for bound in (least, greatest))
        first, last = max(math.ceil(low), -most - (not precision)), min(math.floor(high), most)
        return bool(first <= last)


def microseconds_since(time: datetime) -> int:
    """Return a time as microseconds since the epoch; without an offset it is in UTC."""
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def required_in(fields: Mapping[str, Field], prefix: str = "") -> Iterator[str]:
    """Yield the paths of fields that no record lacks, nested ones too."""
    for name, field in fields.items():
        path = f"{prefix}{name}"
        if not field.is_optional:
            yield path
        for part, inner in (("[]", field.element), ("{}", field.value)):
            yield from required_in({part: inner}, path) if inner else ()
        yield from required_in(field.fields or {}, f"{path}.")


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
        yield from ((f"{name}.{rule}", problem) for rule, problem in field.problems())
