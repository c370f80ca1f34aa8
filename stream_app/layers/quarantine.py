"""Quarantine: the records that break the feed's contract, as they came, with every reason."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from stream_app.contract import Contract, Rejected
from stream_app.layers.verdict import conform, verdicts


def invalid_records(contract: Contract, schema: pa.Schema) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """Bronze -> schema.QUARANTINE: what the contract refuses, with the value as text and all reasons."""

    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        rejected = [(i, v) for i, v in enumerate(verdicts(contract, batch)) if isinstance(v, Rejected)]
        kept = batch.take(pa.array([i for i, _ in rejected], pa.int64()))
        columns = {name: kept[name] for name in kept.schema.names}
        texts = [None if value is None else value.decode("utf-8", "replace") for value in kept["value"].to_pylist()]
        columns["value_text"] = pa.array(texts, pa.string())
        columns["reasons"] = pa.array([list(v.reasons) for _, v in rejected], pa.list_(pa.string()))
        return conform(columns, schema)

    return function
