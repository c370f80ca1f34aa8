"""Totals: running aggregates of silver by key, without an end. They are only where rows are kept by key.

Spark keeps what each key adds up to in RocksDB, and brings each key that a batch has changed with all of it
(docs/adr/6-totals-in-sparks-state.md). So a sink takes a batch again without harm, and a batch costs what its own rows
cost.

`top` keeps the first rows by a measure that never falls. They are among the rows held and the rows changed: any other
key was behind all rows that are held, and these have not fallen (feeds/aggregates.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
from duckdb import DuckDBPyConnection
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Total
from stream_app.feeds.sql import name
from stream_app.layers import recompute, spark_digits
from stream_app.layers.aggregate import Running
from stream_app.layers.measures import as_column, data_type, origins
from stream_app.layers.origin import How, Origins, deciding, same

_OF_A_TOTAL = 2**44
"""How many records a total may have, so that its sum of longs has room in a long: years of 100,000 a second."""


@dataclass(frozen=True)
class Totals(Running):
    """Totals as a dataset: [totals.<name>]."""

    noun: ClassVar[str] = "total"

    @property
    def declared(self) -> Total:
        """What the feed file says of it."""
        return self.feed.totals[self.name]

    @property
    def identity(self) -> tuple[str, ...]:
        """The keys."""
        return self.keys

    @property
    def columns(self) -> StructType:
        """The keys, then the measures in the order of the feed file."""
        keys = [schema.fields(self.feed)[key] for key in self.keys]
        measures = self.declared.measures.items()
        return StructType(
            [*keys, *(StructField(one, data_type(each, self.feed, _OF_A_TOTAL)) for one, each in measures)]
        )

    @property
    def origins(self) -> Mapping[str, Origins]:
        """The keys, and what is measured."""
        return {**same(self.keys), **{name: origins(one) for name, one in self.declared.measures.items()}}

    @property
    def decided_by(self) -> Origins:
        """The keys, what must have a value to count, and what `top` measures."""
        declared = self.declared
        by = declared.measures[declared.top.by].field if declared.top else None
        first = deciding(How.SORT, [by] if by else [])
        return (*deciding(How.GROUP_BY, self.keys), *deciding(How.FILTER, declared.where), *first)

    @property
    def time(self) -> str:
        """Raise TypeError: they have none, and no sink that asks for one takes them."""
        raise TypeError(self.name)

    @property
    def most(self) -> int | None:
        """How many rows `top` keeps."""
        return self.declared.top.most if self.declared.top else None

    @property
    def ranks(self) -> tuple[tuple[str, bool], ...]:
        """The measure of `top`, then the keys."""
        by = ((self.declared.top.by, True),) if self.declared.top else ()
        return (*by, *((key, False) for key in self.keys))

    @property
    def newest_first(self) -> str:
        """By `ranks`."""
        return ", ".join(f"{name(one)} {'DESC' if falls else 'ASC'} NULLS LAST" for one, falls in self.ranks)

    def transform(self, rows: DataFrame, *, fresh: bool) -> DataFrame:  # noqa: ARG002 - always, they are never final
        """Add up silver's rows."""
        return totals(rows, self.feed, self.declared)

    def expected(self, rows: str) -> str:
        """Return the SQL for the totals, or the first of them."""
        return self._first(recompute.totals(self.declared, rows))

    def computed(self, database: DuckDBPyConnection, rows: str) -> pa.Table:
        """Return the totals, or the first of them, in the order of `ranks`."""
        measures = self.declared.measures
        exact = self.declared.model_copy(update={"measures": spark_digits.exact(self.feed, measures)})
        found = f"SELECT * FROM ({self._first(recompute.totals(exact, rows))}) ORDER BY {self.newest_first}"
        table = database.sql(found).to_arrow_table()
        return spark_digits.shown(self.feed, self.keys, measures, table)

    def differing(self, actual: str, expected: str, *, alike: bool) -> str:
        """Return the SQL for totals that differ; sums of doubles may, by rounding."""
        measures = self.declared.measures
        return recompute.differing_measures(self.feed, self.keys, measures, actual, expected, alike=alike)

    def _first(self, rows: str) -> str:
        return f"SELECT * FROM ({rows}) ORDER BY {self.newest_first} LIMIT {self.most}" if self.most else rows


def totals(rows: DataFrame, feed: Feed, declared: Total) -> DataFrame:
    """Silver's rows -> the keys, the measures in the order of the feed file: of each key that a batch has changed.

    Sums and averages of decimals stay decimals; so are sums of longs that may have no room in one.
    """
    for one, value in declared.where.items():
        rows = rows.where(F.col(one) == value)
    measures = [as_column(measure, feed, _OF_A_TOTAL).alias(one) for one, measure in declared.measures.items()]
    return rows.groupBy(*declared.keys).agg(*measures)
