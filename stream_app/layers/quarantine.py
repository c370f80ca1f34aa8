"""Quarantine: the records that break the feed's contract, as they came, with every reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from stream_app.contract.contract import Contract
from stream_app.contract.references import SnapshotOf
from stream_app.contract.verdict import Judged
from stream_app.feeds import schema as schemas
from stream_app.layers.kind import BRONZE
from stream_app.layers.origin import How, Origin, Origins, same
from stream_app.layers.reading import Reading, judged
from stream_app.layers.record_kind import RecordKind

# Of each byte that is not UTF-8 the text has three, and Arrow's array holds 2 GB. The value itself stays whole.
_LONGEST_TEXT = 500_000_000


@dataclass(frozen=True)
class Quarantine(RecordKind):
    """Quarantine as a dataset."""

    upstream: ClassVar[str | None] = BRONZE
    judges: ClassVar[bool] = True
    counted: ClassVar[str | None] = "reasons"
    shown: ClassVar[str] = "* EXCLUDE (value)"

    @property
    def columns(self) -> StructType:
        """schema.QUARANTINE."""
        return schemas.QUARANTINE

    @property
    def origins(self) -> Mapping[str, Origins]:
        """Bronze's columns, the text of the value, and what the contract says of it."""
        text = (Origin("value", How.TRANSFORMATION, by="as text"),)
        judged_by = tuple(Origin(column, How.TRANSFORMATION, by="the contract") for column in ("value", "kafka_ts"))
        return same(self.columns.names) | {"value_text": text, "reasons": judged_by}

    def reading(self, clock: int, snapshot_of: SnapshotOf | None, *, replayed: bool) -> Reading:  # noqa: ARG002
        """Read bronze's records, and keep what the contract refuses."""
        function = invalid_records(Contract(self.feed, snapshot_of), to_arrow_schema(self.columns, timezone="UTC"))
        return Reading(schemas.KEYED_VALUES, function, judges=True)


def invalid_records(contract: Contract, schema: pa.Schema) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """Bronze with PLANNED -> schema.QUARANTINE: what the contract refuses, with the value as text and all reasons."""

    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        return refused(batch, judged(contract, batch, rows=False), schema)

    return function


def refused(batch: pa.RecordBatch, found: Judged, schema: pa.Schema) -> pa.RecordBatch:
    """Return what the contract refuses of a judged batch of bronze, in exactly that schema."""
    kept = batch.take(pa.array([place for place, _ in found.rejected], pa.int64()))
    texts = [text_of(value) for value in kept["value"].to_pylist()]
    kept = kept.append_column("value_text", pa.array(texts, pa.string()))
    reasons = pa.array([list(verdict.reasons) for _, verdict in found.rejected], pa.list_(pa.string()))
    return kept.append_column("reasons", reasons).select(schema.names).cast(schema)


def text_of(value: bytes | None) -> str | None:
    """Return a value as text, with U+FFFD for what is no UTF-8, cut where no array could hold it."""
    return None if value is None else value[:_LONGEST_TEXT].decode("utf-8", "replace")
