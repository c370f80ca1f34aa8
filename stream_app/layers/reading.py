"""How a task reads the files of a layer: which columns, and what it makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql.types import StructType

from stream_app.contract.contract import Contract
from stream_app.contract.undeclared import Undeclared
from stream_app.contract.verdict import Judged
from stream_app.feeds.schema import PINS, PLANNED


def judged(contract: Contract, batch: pa.RecordBatch, *, rows: bool = True) -> Judged:
    """Judge records of bronze with PLANNED and, where the feed has lookups, PINS; without `rows` for the refused."""
    by = batch[PINS] if PINS in batch.schema.names else None
    return contract.check_all(batch["value"], batch["kafka_ts"].cast(pa.int64()), batch[PLANNED], by, rows=rows)


@dataclass(frozen=True)
class Reading:
    """What a task does with the files that it is given."""

    columns: StructType
    """Which of their columns it reads. Older files may be narrower: they are read as if they were not."""
    function: Callable[[pa.RecordBatch], pa.RecordBatch]
    """What it makes of each batch of them, which has exactly those columns."""
    judges: bool = False
    """Whether it takes PLANNED and PINS beside the columns, by which each record is judged (`judged`)."""
    has_provenance: bool = False
    """Whether it takes schema.PROVENANCE beside the columns."""
    idle: Callable[[int], pa.RecordBatch] | None = None
    """The row that moves the event time without a record (layers/idle_clock.py), if the feed has it go on."""
    undeclared: Undeclared | None = None
    """What the function adds to where records have fields that nobody has declared."""

    @classmethod
    def plain(cls, columns: StructType) -> Reading:
        """Return how those columns are read as they are, in exactly their types."""
        return cls(columns, lambda batch: batch)
