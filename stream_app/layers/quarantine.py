"""Quarantine: the records that break the feed's contract, as they came, with every reason."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from stream_app.contract.contract import Contract
from stream_app.feeds.schema import PLANNED

# Of each byte that is not UTF-8 the text has three, and Arrow's array holds 2 GB. The value itself stays whole.
_LONGEST_TEXT = 500_000_000


def invalid_records(contract: Contract, schema: pa.Schema) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """Bronze with PLANNED -> schema.QUARANTINE: what the contract refuses, with the value as text and all reasons."""

    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        rejected = contract.check_all(batch["value"], batch["kafka_ts"].cast(pa.int64()), batch[PLANNED]).rejected
        kept = batch.take(pa.array([place for place, _ in rejected], pa.int64()))
        texts = [_text(value) for value in kept["value"].to_pylist()]
        kept = kept.append_column("value_text", pa.array(texts, pa.string()))
        reasons = pa.array([list(verdict.reasons) for _, verdict in rejected], pa.list_(pa.string()))
        return kept.append_column("reasons", reasons).select(schema.names).cast(schema)

    return function


def _text(value: bytes | None) -> str | None:
    return None if value is None else value[:_LONGEST_TEXT].decode("utf-8", "replace")
