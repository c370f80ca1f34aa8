"""Reference data as a feed file declares it: a file or a query, whose rows are looked up by key. No pyspark here."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Annotated

import pydantic
from pydantic import BeforeValidator, StringConstraints

from stream_app.feeds.field_keys import TypeName
from stream_app.feeds.fields import Field
from stream_app.feeds.parts import ColumnName, Duration, Frozen, quoted

_Source = Annotated[str, StringConstraints(min_length=1)]
# What a cell of a CSV can be read as without a rule of its own.
_WITHOUT_TEXT = frozenset({"binary", "json", "array", "map", "struct"})
KEY_TYPES = frozenset({"string", "uuid", "int", "long", "decimal", "date"})
"""What a field may be that references a lookup: it has one value, in one form."""


def _column(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


class LookupColumn(Frozen):
    """A column that a lookup joins to silver."""

    type: TypeName
    """A scalar type (docs/feeds.md#types), but no binary and no json."""
    column: _Source | None = None
    """What the file or the query calls it; without it as silver does."""


class Lookup(Frozen):
    """Rows with one key each, which fields reference."""

    file: _Source | None = None
    """A CSV with a header, or Parquet: from the folder of the feed file on."""
    query: _Source | None = None
    """A query of the PostgreSQL database at DATABASE_URL."""
    key: _Source
    """The column of the file or the query with the keys. Each is there once."""
    columns: dict[
        ColumnName, Annotated[LookupColumn, BeforeValidator(_column, json_schema_input_type=LookupColumn | TypeName)]
    ] = pydantic.Field(default_factory=dict)
    """Column of silver -> its type, or its type and what the file or the query calls it."""
    refresh: Duration = timedelta(minutes=5)
    """How often the service looks whether it has changed."""

    @property
    def joined(self) -> dict[str, Field]:
        """The columns that it adds to silver, as fields that may be null."""
        return {name: Field(type=column.type, required=False) for name, column in self.columns.items()}

    def identity(self, name: str, key_type: str) -> str:
        """Return what the snapshots of this declaration are pinned by.

        It changes with what a snapshot holds, and not with where that comes from.
        """
        held = repr((self.key, key_type, [(one, c.type, c.column) for one, c in self.columns.items()]))
        return f"{name}-{hashlib.sha256(held.encode()).hexdigest()[:8]}"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, what is wrong with it)."""
        if (self.file is None) == (self.query is None):
            yield "file", "a lookup has either a file or a query"
        for name, column in self.columns.items():
            if column.type in _WITHOUT_TEXT:
                yield f"columns.{name}", f"is a {column.type}, which is no type of a lookup's column"


def problems(
    lookups: Mapping[str, Lookup], fields: Mapping[str, Field], reserved: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield (key of the feed file, what is wrong with it) for lookups and the fields that reference them."""
    by: dict[str, list[str]] = {name: [] for name in lookups}
    for column, field in fields.items():
        yield from ((f"fields.{column}.{key}", problem) for key, problem in _nested_references(field))
        if field.references is None:
            continue
        if field.references not in by:
            yield f"fields.{column}.references", f"{quoted(field.references)} is not a declared lookup"
        elif field.type.partition("(")[0] not in KEY_TYPES:
            yield f"fields.{column}.references", f"{column} is a {field.type}, which is no key of a lookup"
        else:
            by[field.references].append(column)
    taken = dict.fromkeys(fields, "the feed has a field of this name already")
    taken |= dict.fromkeys(reserved, "silver may have a column of this name already")
    for name, lookup in lookups.items():
        key, own = f"lookups.{name}", by[name]
        yield from ((f"{key}.{part}", problem) for part, problem in lookup.problems())
        if not own:
            yield key, f'no field references it; write references = "{name}" at the field that has its keys'
        elif len({fields[column].type for column in own}) > 1:
            yield f"{key}.key", f"{' and '.join(own)} reference it, and are of different types"
        elif len(own) > 1 and lookup.columns:
            yield f"{key}.columns", f"{' and '.join(own)} reference it; declare a lookup for each to join its columns"
        for column, declared in lookup.columns.items():
            if column in taken:
                line = f'{{ type = "{declared.type}", column = "{declared.column or column}" }}'
                yield f"{key}.columns.{column}", f"{taken[column]}; rename it, as {name}_{column} = {line}"
            taken[column] = f"{name} has a column of this name already"


def _nested_references(field: Field) -> Iterator[tuple[str, str]]:
    inner = {"element": field.element, "value": field.value}
    inner |= {f"fields.{name}": one for name, one in (field.fields or {}).items()}
    for place, one in inner.items():
        if one is not None:
            if one.references is not None:
                yield f"{place}.references", "is for a field of the record itself"
            yield from ((f"{place}.{key}", problem) for key, problem in _nested_references(one))
