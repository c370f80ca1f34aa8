"""The contract over Arrow: a verdict for each record of a batch of bronze, and columns of what it returns."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from stream_app.contract import Contract, Rejected, Row


def verdicts(contract: Contract, batch: pa.RecordBatch) -> list[Row | Rejected]:
    """Judge the column `value` by the column `kafka_ts`, in order."""
    times = batch["kafka_ts"].cast(pa.int64()).to_pylist()
    return list(map(contract.check, batch["value"].to_pylist(), times))


def typed_column(values: object, data_type: pa.DataType) -> pa.Array:
    """One column of the contract's rows, whose timestamps are microseconds since the epoch, as Arrow."""
    if pa.types.is_timestamp(data_type):
        return pa.array(values, pa.int64()).view(data_type)
    return pa.array(values, data_type)


def conform(columns: Mapping[str, pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    """The columns of that schema, in its order and its types."""
    return pa.RecordBatch.from_arrays(
        [columns[name].cast(schema.field(name).type) for name in schema.names], schema=schema
    )
