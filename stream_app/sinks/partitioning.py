"""How a table is partitioned: by a column, or by the UTC date of a time, in a column of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa

from stream_app.feeds.parts import IDENTIFIER, quoted
from stream_app.feeds.schema import types_of
from stream_app.feeds.sql import name
from stream_app.flows.batch import Batch
from stream_app.layers.kind import Kind
from stream_app.sinks.dates import DATE, Near
from stream_app.sinks.table_parts import Divide, by_value, whole
from stream_app.sources.split_rows import Batches
from stream_app.storage.tables.table import Partition

BY_DATE = rf"^date\(({IDENTIFIER.pattern})\)$"
"""What a feed file may say of folders of files."""
PATTERN = rf"^({IDENTIFIER.pattern}|date\({IDENTIFIER.pattern}\))$"
"""What it may say of a table."""
# Values of other types have no text that every reader takes for the same value.
_TYPES = frozenset({"string", "uuid", "boolean", "int", "long", "date"})


@dataclass(frozen=True)
class Partitioning:
    """What a feed file says, as `partition_by`: a column, `date(<column>)`, or nothing."""

    declared: str | None

    @property
    def time(self) -> str | None:
        """The column by whose date rows are divided."""
        found = re.fullmatch(BY_DATE, self.declared or "")
        return found[1] if found else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns by which it is partitioned."""
        return (DATE,) if self.time else (self.declared,) if self.declared else ()

    @property
    def added(self) -> pa.Schema:
        """The columns that the table has beside those of its rows."""
        return pa.schema([(DATE, pa.date32())] if self.time else [])

    def problem(self, kind: Kind) -> str:
        """Return why the dataset cannot be partitioned so; else ""."""
        types = {name: one.name for name, one in types_of(kind.columns).items()}
        if self.time:
            if types.get(self.time) != "timestamp":
                return f"{quoted(self.time)} is not a time of {kind.name}"
            return f"{kind.name} has a column {DATE} already; name that" if DATE in types else ""
        if self.declared and types.get(self.declared) not in _TYPES:
            what = "of a type to partition by" if self.declared in types else "a column"
            return f"{quoted(self.declared)} is not {what} of {kind.name}"
        return ""

    def divide(self, kind: Kind, batch: Batch, dates: timedelta) -> Divide:
        """Return what divides the rows of a batch; dates further from it than `dates` have none (null)."""
        if (time := self.time) is None:
            return by_value(self.declared) if self.declared else whole
        near = Near.of(kind, batch, dates)

        def divide(batches: Batches) -> Iterator[tuple[Partition, Batches]]:
            yield from (({DATE: date}, own) for date, own in near.divide(batches, time))

        return divide

    def compared(self, column: str) -> str:
        """Return a column of the dataset as the table has it, in SQL: an empty text to partition by is null there."""
        is_text = column == self.declared
        return f"nullif({name(column)}::VARCHAR, '') AS {name(column)}" if is_text else name(column)
