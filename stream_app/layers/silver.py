"""Silver: the valid records, typed, each once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructField, StructType, TimestampType

from stream_app.contract.contract import Contract
from stream_app.contract.references import SnapshotOf
from stream_app.contract.undeclared import Undeclared
from stream_app.contract.verdict import Judged
from stream_app.feeds import schema as schemas
from stream_app.feeds.rules import WARNINGS
from stream_app.feeds.schema import COORDINATES, types_of
from stream_app.feeds.types import Type
from stream_app.layers.kind import BRONZE
from stream_app.layers.origin import How, Origin, Origins, same
from stream_app.layers.reading import Reading, judged
from stream_app.layers.record_kind import RecordKind

CLOCK = "_clock"
"""The time that repeats are measured by: Kafka's timestamp, never behind the clock of earlier batches, which is their
newest timestamp that is not after they were read.

What is older than the span in which repeats are looked for is forgotten (sinks/dedupe/index.py). By event time or
the bare Kafka timestamp, a repeat would slip through whose partition is read an hour after the others; on this clock
no record is ever behind. It is derived from the offsets alone (sources/layer_reader.py), so a replay sees the same.
"""

BatchFunction = Callable[[pa.RecordBatch], pa.RecordBatch]

# By type of a dedupe key, another one that spells every value of it the same: what is kept is a digest of that.
_SPELLED_AS = {"int": "long"}
# Where repeats were found once; it is in digests that stand on users' disks.
_STATE = "sinks/seen.py"


@dataclass(frozen=True)
class Silver(RecordKind):
    """Silver as a dataset."""

    upstream: ClassVar[str | None] = BRONZE
    judges: ClassVar[bool] = True
    takes_replayed: ClassVar[bool] = True
    drops_repeats: ClassVar[bool] = True
    previewed_by: ClassVar[str | None] = "kafka_ts"

    @property
    def columns(self) -> StructType:
        """What the contract makes of each record, then where the record was in Kafka."""
        return schemas.silver(self.feed)

    @property
    def types(self) -> dict[str, Type]:
        """The same, as the feed file calls them."""
        return {**self.feed.columns, **types_of(COORDINATES)}

    @property
    def sources(self) -> dict[str, str]:
        """What the feed makes the values of its fields of."""
        return self.feed.sources

    @property
    def required(self) -> frozenset[str]:
        """What the feed requires."""
        return self.feed.required

    @property
    def origins(self) -> Mapping[str, Origins]:
        """Of each field its path in the value; of what is joined the lookup's column and the field that is its key."""
        feed = self.feed
        paths = {name: Origin("value", How.TRANSFORMATION, by=".".join(feed.path_of(name))) for name in feed.fields}
        found = same(self.columns.names) | {name: (path,) for name, path in paths.items()}
        keys = {lookup: paths[field] for field, lookup in feed.references.items()}
        for lookup, declared in feed.lookups.items():
            for name, column in declared.columns.items():
                joined = Origin(column.column or name, How.IDENTITY, lookup)
                found[name] = (joined, replace(keys[lookup], how=How.JOIN))
        if self.warned:
            found[self.warned] = (Origin("value", How.TRANSFORMATION, by="the rules that warn"),)
        return found

    @property
    def decided_by(self) -> Origins:
        """The contract, and the keys that must be in reference data."""
        return (*super().decided_by, *(Origin(one.key, How.FILTER, name) for name, one in self.feed.lookups.items()))

    @property
    def text_columns(self) -> StructType:
        """What the contract makes of each record."""
        return schemas.verdict(self.feed)

    @property
    def warned(self) -> str | None:
        """The names of the rules that warn of a row."""
        return WARNINGS if WARNINGS in self.feed.columns else None

    @property
    def taken(self) -> StructType:
        """The same with CLOCK, by which repeats are found."""
        return StructType([*self.columns, StructField(CLOCK, TimestampType())])

    @property
    def time(self) -> str:
        """The event time."""
        return self.feed.event_time.field

    @property
    def state(self) -> Mapping[str, object]:
        """[dedupe], how the columns of its key are spelled, and the event time."""
        dedupe, types = self.feed.dedupe, self.types
        kinds = {column: types[column].name for column in self.feed.dedupe_keys}
        return {
            "dedupe": json.loads(dedupe.spelled()) if dedupe else None,
            "event_time": self.feed.event_time.field,
            "fields": {column: _SPELLED_AS.get(kind, kind) for column, kind in kinds.items()},
        }

    @property
    def shape(self) -> list[object]:
        """The columns that the contract makes, and their types."""
        return [list(self.feed.columns), [kind.name for kind in self.feed.columns.values()]]

    @property
    def depends_on(self) -> list[object]:
        """The same and [dedupe], if the feed has one."""
        dedupe = self.feed.dedupe
        return [*self.shape, *((dedupe.spelled(), _STATE) if dedupe else ())]

    def reading(self, clock: int, snapshot_of: SnapshotOf | None, *, replayed: bool) -> Reading:
        """Read bronze's records, and keep what the contract takes; what was replayed passed it then."""
        columns = to_arrow_schema(self.taken, timezone="UTC")
        if replayed:
            return Reading(self.columns, clocked(columns, clock))
        undeclared = Undeclared()
        function = valid_rows(Contract(self.feed, snapshot_of), columns, clock, undeclared)
        return Reading(schemas.VALUES, function, judges=True, undeclared=undeclared)


def valid_rows(
    contract: Contract, schema: pa.Schema, clock_us: int, undeclared: Undeclared | None = None
) -> BatchFunction:
    """Bronze with PLANNED -> the typed rows of the valid records, their coordinates, and CLOCK.

    `clock_us` is the clock of earlier batches, in microseconds since the epoch. Fields that nobody has declared are
    added to `undeclared`.
    """

    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        found = judged(contract, batch)
        if undeclared is not None:
            undeclared.merge(contract.undeclared(batch["value"], found))
        return with_clock(rows_of(batch, contract, found))

    with_clock = clocked(schema, clock_us)
    return function


def rows_of(batch: pa.RecordBatch, contract: Contract, found: Judged) -> pa.RecordBatch:
    """Return the typed rows of a judged batch of bronze, then their coordinates."""
    places, columns = found.rows()
    place_in_kafka = batch.select(COORDINATES.names).take(places)
    names = [*contract.columns, *COORDINATES.names]
    return pa.RecordBatch.from_arrays([*columns, *place_in_kafka.columns], names)


def clocked(schema: pa.Schema, clock_us: int) -> BatchFunction:
    """Rows with kafka_ts -> the same with CLOCK, in exactly the schema."""

    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        kafka_us = batch["kafka_ts"].cast(pa.int64())
        clock = pc.max_element_wise(kafka_us, pa.scalar(clock_us)).view(batch["kafka_ts"].type)
        return batch.append_column(CLOCK, clock).cast(schema)

    return function
