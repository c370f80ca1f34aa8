"""The JSON Schema of a feed's records as they come on the wire (draft 2020-12).

What the contract takes, the schema takes. It takes more where JSON Schema cannot say it: that a day is in the calendar,
the range of a time or of a number in a text, how many decimals a number has. Nor can it say what is not of the record
alone: lateness, lookups and rules. Bounds are as near as the next double, since most validators read doubles.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any, cast

from stream_app.contract.scalars import NUMBER_SPELLING, UUID_SPELLING
from stream_app.contract.times import DATE_SPELLING, EPOCH_UNITS, FIRST_US, LAST_US, TIME_SPELLING
from stream_app.feeds.feed import Feed
from stream_app.feeds.field_problems import LARGEST_FLOAT
from stream_app.feeds.fields import Field
from stream_app.ops.exports.pattern import ecma

Schema = dict[str, Any]
_Tree = dict[str, "_Tree | Field"]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_EXACT = 2**53


def json_schema(feed: Feed) -> Schema:
    """Return the schema of one record of the feed's topic."""
    made = _members(feed.fields, is_closed=feed.wire.unknown == "quarantine")
    about = f"A record of the topic {feed.topic}, as the feed {feed.name} takes it."
    return {
        "$schema": DIALECT,
        "$id": f"urn:kafka-medallion:{feed.name}",
        "title": feed.name,
        "description": about,
        **made,
    }


def _members(fields: Mapping[str, Field], *, is_closed: bool) -> Schema:
    tree: _Tree = {}
    for name, field in fields.items():
        *above, last = field.path or (name,)
        branch = tree
        for step in above:
            branch = cast("_Tree", branch.setdefault(step, {}))
        branch[last] = field
    return _object(tree, is_closed=is_closed)


def _object(tree: _Tree, *, is_closed: bool) -> Schema:
    properties = {
        name: _field(one, is_closed=is_closed)
        if isinstance(one, Field)
        else _or_null(_object(one, is_closed=is_closed), is_optional=not _is_required(one))
        for name, one in tree.items()
    }
    required = [name for name, one in tree.items() if _is_required(one)]
    closed = {"additionalProperties": False} if is_closed else {}
    return {"type": "object", "properties": properties, **({"required": required} if required else {}), **closed}


def _is_required(one: _Tree | Field) -> bool:
    return not one.is_optional if isinstance(one, Field) else any(map(_is_required, one.values()))


def _field(field: Field, *, is_closed: bool) -> Schema:
    kind = field.type.partition("(")[0]
    if field.type == "array":
        made: Schema = {"type": "array", "items": _field(field.inner, is_closed=is_closed), **_bounds(field, "Items")}
    elif field.type == "map":
        values = _field(field.inner, is_closed=is_closed)
        made = {"type": "object", "additionalProperties": values, **_bounds(field, "Properties")}
    elif field.type == "struct":
        made = _members(field.fields or {}, is_closed=is_closed)
    elif field.text:
        made = {"type": "string", "pattern": f"^(?:{NUMBER_SPELLING})$"}
    elif field.is_number:
        made = _number(field, kind)
    else:
        made = _SCALARS[kind](field)
    return {**_or_null(made, is_optional=field.is_optional), **_default(field)}


def _default(field: Field) -> Schema:
    """Return what a row has where a record has none, as a record would have it."""
    given = field.default
    if given is None or field.format:
        return {}
    if field.text:
        return {"default": str(given)}
    if isinstance(given, date):
        return {"default": given.isoformat()}
    return {"default": _as_json(given, math.inf) if isinstance(given, Decimal) else given}


def _or_null(made: Schema, *, is_optional: bool) -> Schema:
    if not is_optional or "type" not in made:
        return {"not": {"type": "null"}} if made == {} and not is_optional else made
    allowed = {"enum": [*made["enum"], None]} if "enum" in made else {}
    return {**made, "type": [made["type"], "null"], **allowed}


def _bounds(field: Field, of: str) -> Schema:
    return {f"min{of}": field.length[0], f"max{of}": field.length[1]} if field.length else {}


def _string(field: Field) -> Schema:
    if field.allowed is not None:
        return {"type": "string", "enum": list(dict.fromkeys(field.allowed))}
    made = {"type": "string", **_bounds(field, "Length")}
    if not field.pattern:
        return made
    pattern = ecma(field.pattern)
    return {**made, **({"pattern": pattern} if pattern else {"description": f"It matches {field.pattern} of RE2."})}


def _binary(field: Field) -> Schema:
    made = {"type": "string", "contentEncoding": "base64", "pattern": f"^{_BASE64}$"}
    if field.length is None:
        return made
    least, most = (4 * -(-size // 3) for size in field.length)
    return {**made, "minLength": least, "maxLength": most}


def _timestamp(field: Field) -> Schema:
    if field.format in EPOCH_UNITS:
        unit = 10 ** EPOCH_UNITS[field.format]
        least, most = field.time_range or (FIRST_US, LAST_US)
        return {"type": "number", **_between(Decimal(least) / unit, Decimal(most + 1) / unit)}
    return {"type": "string", "pattern": f"^(?:{DATE_SPELLING if field.format else TIME_SPELLING})$"}


def _date(_: Field) -> Schema:
    return {"type": "string", "pattern": f"^(?:{DATE_SPELLING})$"}


_SCALARS = {
    "string": _string,
    "boolean": lambda _field: {"type": "boolean"},
    "binary": _binary,
    "uuid": lambda _field: {"type": "string", "pattern": f"^{UUID_SPELLING}$"},
    "json": lambda _field: {},
    "timestamp": _timestamp,
    "date": _date,
}


def _number(field: Field, kind: str) -> Schema:
    least, most = _held(field, kind)
    if field.number_range:
        least, most = max(least, field.number_range[0]), min(most, field.number_range[1])
    scale = (field.precision_scale or (0, 0))[1]
    is_whole = kind in {"int", "long"} or (kind == "decimal" and not scale)
    said = {"description": f"At most {scale} decimals"} if scale else {}
    return {"type": "integer" if is_whole else "number", **_between(least, most), **said}


def _held(field: Field, kind: str) -> tuple[Decimal, Decimal]:
    """Return the least and the greatest number that the type holds."""
    if kind in {"int", "long"}:
        bits = 31 if kind == "int" else 63
        return Decimal(-(2**bits)), Decimal(2**bits - 1)
    if field.precision_scale:
        precision, scale = field.precision_scale
        most = Decimal((0, (9,) * precision, -scale))
        return -most, most
    most = Decimal(LARGEST_FLOAT if kind == "float" else sys.float_info.max)
    return -most, most


def held_range(field: Field) -> Schema:
    """Return the bounds of a number's range."""
    return _between(*field.number_range) if field.number_range else {}


def _between(least: Decimal, most: Decimal) -> Schema:
    """Return the bounds, no nearer than the next double: a number between is so as a double, too."""
    return {"minimum": _as_json(least, -math.inf), "maximum": _as_json(most, math.inf)}


def _as_json(bound: Decimal, outward: float) -> int | float:
    number = float(bound)
    if Decimal(number) != bound and (Decimal(number) < bound) == (outward > 0):
        number = math.nextafter(number, outward)
    if math.isinf(number):
        number = math.copysign(sys.float_info.max, number)
    return int(number) if number.is_integer() and (abs(number) <= _EXACT or abs(number) < 10**40) else number
