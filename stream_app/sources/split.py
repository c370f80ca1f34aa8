"""A share of the files that a micro-batch reads: what a query of splits has as its rows."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql.types import BinaryType, StructField, StructType

SPLIT = StructType([StructField("split", BinaryType())])
"""The columns of a stream of splits (sources/layer.py)."""


@dataclass(frozen=True)
class Split:
    """The work of one task: row groups of files, and the clock at the start of the batch."""

    row_groups: list[tuple[str, list[int]]]
    clock: int
    replayed: bool = False
    """Whether the files are of the ledger, whose rows passed the contract when they were replayed."""

    def to_arrow(self) -> pa.RecordBatch:
        """A row of SPLIT."""
        return pa.RecordBatch.from_arrays([pa.array([pickle.dumps(self)], pa.binary())], SPLIT.names)
