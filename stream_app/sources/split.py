"""The work of a task, as a share of what a micro-batch reads: what a query of splits has as its rows."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql.types import BinaryType, StructField, StructType

SPLIT = StructType([StructField("split", BinaryType())])
"""The columns of a stream of splits."""


@dataclass(frozen=True)
class Split:
    """Of a layer: row groups of its files, and the clock at the start of the batch."""

    row_groups: list[tuple[str, list[int]]]
    clock: int
    replayed: bool = False
    """Whether the files are of the ledger, whose rows passed the contract when they were replayed."""
    idle_clock: int = 0
    """Where the event time goes without a record, if it does; then there are no files."""


def encoded(splits: Iterable[object]) -> pa.RecordBatch:
    """Return splits of any kind as SPLIT, a row each."""
    return pa.RecordBatch.from_arrays([pa.array([pickle.dumps(split) for split in splits], pa.binary())], SPLIT.names)


def decoded(batches: Iterable[pa.RecordBatch]) -> Iterator[Any]:
    """Yield the splits that were `encoded`."""
    for pickled in (value for batch in batches for value in batch["split"].to_pylist()):
        yield pickle.loads(pickled)  # noqa: S301 - of our own
