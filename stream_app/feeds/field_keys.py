"""What the keys of a field take in a feed file: types, paths, patterns and bounds. No pyspark here."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pydantic
from pydantic import AfterValidator, BeforeValidator, PlainSerializer, PlainValidator, StringConstraints, WithJsonSchema

from stream_app.feeds import types
from stream_app.feeds.parts import quoted


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


def _bound(value: object) -> Decimal | date:
    """Return a number, or a date or time, which has a type of its own in TOML."""
    if isinstance(value, date):
        return value
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if number.is_finite() and not isinstance(value, bool):
        return number
    raise ValueError("is no finite number, date or time")


def _steps(value: object) -> object:
    return value.split(".") if isinstance(value, str) else value


_TYPE = re.compile(rf"({'|'.join(types.SCALARS)}|array|map|struct|decimal\([0-9]{{1,2}},[0-9]{{1,2}}\))")


def _digits(name: str) -> str:
    if not _TYPE.fullmatch(name):
        raise ValueError(f"{quoted(name)} is none of {', '.join(types.SCALARS)}, decimal(18,2), array, map, struct")
    precision, scale = types.precision_scale(name) or (1, 0)
    if not scale <= precision <= 38 or precision < 1:
        raise ValueError(f"{name} is not a decimal of 1 to 38 digits")
    return name


TypeName = Annotated[str, AfterValidator(_digits), WithJsonSchema({"type": "string", "pattern": f"^{_TYPE.pattern}$"})]
# Needs no escape in JSON, which is what msgspec asks of a Struct's names.
Name = Annotated[str, StringConstraints(pattern=r'^[^"\\\x00-\x1f]{1,128}$')]
Path = Annotated[
    tuple[Name, ...],
    pydantic.Field(min_length=1),
    BeforeValidator(_steps),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
]
Bound = Annotated[
    Decimal | date,
    PlainValidator(_bound),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": ["number", "string"]}),
]
Format = Literal["epoch_seconds", "epoch_millis", "epoch_micros", "date"]
Default = Annotated[Any, WithJsonSchema({"type": ["string", "number", "boolean"]})]
Pattern = Annotated[str, AfterValidator(_pattern)]
