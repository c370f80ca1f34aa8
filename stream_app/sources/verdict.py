"""The contract over Arrow: a batch of bronze -> the rows that pass, or the records that do not, with their reasons."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from stream_app.contract import Contract, Rejected

BatchFunction = Callable[[pa.RecordBatch], pa.RecordBatch]


def valid_rows(contract: Contract, schema: pa.Schema, clock_column: str, clock_us: int) -> BatchFunction:
    """Bronze -> the typed rows of the valid records, their coordinates, and the clock (layers/silver.py).

    `clock_us` is the newest Kafka timestamp of earlier batches, in microseconds since the epoch.
    """

    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        verdicts = _verdicts(contract, batch)
        valid = [i for i, verdict in enumerate(verdicts) if not isinstance(verdict, Rejected)]
        fields = zip(*(verdicts[i] for i in valid), strict=True) if valid else [[] for _ in contract.columns]
        columns = {
            name: typed_column(values, schema.field(name).type)
            for name, values in zip(contract.columns, fields, strict=True)
        }
        kept = batch.take(pa.array(valid, pa.int64()))
        columns |= {name: kept[name] for name in ("kafka_ts", "topic", "partition", "offset")}
        return with_clock(pa.RecordBatch.from_pydict(columns))

    with_clock = clocked(schema, clock_column, clock_us)
    return function


def clocked(schema: pa.Schema, clock_column: str, clock_us: int) -> BatchFunction:
    """Rows with kafka_ts -> the same with the clock (layers/silver.py), in exactly the schema."""

    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = {name: batch[name] for name in batch.schema.names}
        kafka_us = batch["kafka_ts"].cast(pa.int64())
        columns[clock_column] = pc.max_element_wise(kafka_us, pa.scalar(clock_us)).view(batch["kafka_ts"].type)
        return _conform(columns, schema)

    return function


def invalid_records(contract: Contract, schema: pa.Schema) -> BatchFunction:
    """Bronze -> the records that the contract refuses, as they came, with the value as text and all reasons."""

    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        rejected = [(i, v) for i, v in enumerate(_verdicts(contract, batch)) if isinstance(v, Rejected)]
        kept = batch.take(pa.array([i for i, _ in rejected], pa.int64()))
        columns = {name: kept[name] for name in kept.schema.names}
        texts = [None if value is None else value.decode("utf-8", "replace") for value in kept["value"].to_pylist()]
        columns["value_text"] = pa.array(texts, pa.string())
        columns["reasons"] = pa.array([list(v.reasons) for _, v in rejected], pa.list_(pa.string()))
        return _conform(columns, schema)

    return function


def _verdicts(contract: Contract, batch: pa.RecordBatch) -> list[tuple[object, ...] | Rejected]:
    times = batch["kafka_ts"].cast(pa.int64()).to_pylist()
    return list(map(contract.check, batch["value"].to_pylist(), times))


def typed_column(values: object, data_type: pa.DataType) -> pa.Array:
    """One column of the contract's rows, whose timestamps are microseconds since the epoch, as Arrow."""
    if pa.types.is_timestamp(data_type):
        return pa.array(values, pa.int64()).view(data_type)
    return pa.array(values, data_type)


def _conform(columns: dict[str, pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [columns[name].cast(schema.field(name).type) for name in schema.names], schema=schema
    )
