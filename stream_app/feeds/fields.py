"""The fields of a feed file: what a record must hold, and the column that each becomes. No pyspark here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from stream_app.feeds import types
from stream_app.feeds.field_keys import Bound, Default, Format, Path, Pattern, TypeName
from stream_app.feeds.parts import ColumnName, Frozen

# A sum has ten digits more, and Spark's decimals have 38.
_SUMMABLE_DIGITS = 28
NUMBERS = frozenset({"int", "long", "float", "double", "decimal"})
_NEWER = {"required", "default", "text", "format", "references"}
"""What version 0.1.0 could not declare."""
_NESTED = frozenset({"array", "map", "struct"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
        return self.type in _NESTED

    @property
    def is_whole(self) -> bool:
        """Whether it says what it holds, so that it has a type; else there is a mistake in the file."""
        holds = {"array": self.element, "map": self.value, "struct": self.fields}
        inside = [*(self.fields or {}).values(), *filter(None, (self.element, self.value))]
        return bool(holds.get(self.type, True)) and all(one.is_whole for one in inside)

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
        return self.type.partition("(")[0] in NUMBERS

    @property
    def tells_apart(self) -> bool:
        """Whether rows can be counted by it: it has one value, and that has one form."""
        return not self.is_nested and self.type != "json"

    @property
    def has_map(self) -> bool:
        """Whether a value is a map or holds one, which Spark compares with no other."""
        parts = (self.element, *(self.fields or {}).values())
        return self.value is not None or any(one.has_map for one in parts if one)

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
        least, greatest = map(self.as_time, self.range)
        return least, greatest

    def as_time(self, bound: object) -> int:
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

    def sources(self, name: str, path: str) -> Iterator[tuple[str, str]]:
        """Yield the path of each value, its own first, and what the value is made of beside its type.

        That is a text, which changes with `path`, `default`, `format` and `text`, but with no rule.
        """
        said = self.model_dump(mode="json", include={"default", "format", "text"}, exclude_defaults=True)
        yield path, json.dumps({"path": self.path or (name,), **said}, sort_keys=True)
        for key in ("element", "value"):
            if inner := getattr(self, key):
                yield from inner.sources("", f"{path}[]")
        for member, field in (self.fields or {}).items():
            yield from field.sources(member, f"{path}.{member}")

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
