"""Landed files are judged again by the contract's definition, which the ETL's tasks do not use."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.contract.contract import Contract
from stream_app.contract.verdict import Rejected
from stream_app.errors import StreamAppError
from stream_app.feeds import schema as schemas
from stream_app.feeds.feed import Feed
from stream_app.feeds.schema import COORDINATES, PLANNED
from stream_app.gold.judge import Reference, bronze_of
from stream_app.landing.lines import read
from stream_app.landing.zone import LandedFile

FILE = "_file"
"""The column with the number of the landed file that a row is of."""
_FEW_FILES = 8


@dataclass(frozen=True)
class Expected:
    """What the definition makes of a landed file."""

    records: int
    problem: str = ""
    """Why the file cannot be read; else empty."""


def expected(
    feed: Feed, files: Sequence[tuple[LandedFile, Reference]], folder: Path, progress: Callable[[int], None]
) -> list[Expected]:
    """Judge files, each by its reference data.

    Write `valid-<number>.parquet` and `refused-<number>.parquet` of each to the folder.
    """
    judge = partial(_judged, feed, folder)
    found = []
    if len(files) <= _FEW_FILES:
        for number, file in enumerate(files):
            found.append(judge(number, file))
            progress(found[-1].records)
        return found
    start = multiprocessing.get_context("spawn")  # not forked: this process has threads
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), start) as pool:
        for one in pool.map(judge, range(len(files)), files):
            found.append(one)
            progress(one.records)
    return found


def _judged(feed: Feed, folder: Path, number: int, given: tuple[LandedFile, Reference]) -> Expected:
    file, by = given
    contract = Contract(feed, by.snapshots)
    valid = to_arrow_schema(schemas.silver(feed), timezone="UTC").append(pa.field(FILE, pa.int64()))
    invalid = to_arrow_schema(schemas.QUARANTINE, timezone="UTC").append(pa.field(FILE, pa.int64()))
    records = 0
    with (
        pq.ParquetWriter(folder / f"valid-{number}.parquet", valid, store_decimal_as_integer=True) as rows,
        pq.ParquetWriter(folder / f"refused-{number}.parquet", invalid) as quarantine,
    ):
        try:
            for lines in read(file):
                batch = bronze_of(lines, feed.topic, by.pin)
                kafka_ts, planned = (batch[name].cast(pa.int64()).to_pylist() for name in ("kafka_ts", PLANNED))
                pins = [by.pin] * len(lines)
                verdicts = contract.check_each(batch["value"].to_pylist(), kafka_ts, planned, pins)
                for writer, schema, columns in (
                    (rows, valid, _valid(batch, verdicts, valid, contract)),
                    (quarantine, invalid, _invalid(batch, verdicts)),
                ):
                    columns[FILE] = pa.repeat(pa.scalar(number, pa.int64()), len(columns["offset"]))
                    writer.write_batch(pa.RecordBatch.from_pydict(columns).select(schema.names).cast(schema))
                records += len(lines)
        except (StreamAppError, OSError) as error:
            return Expected(records, str(error))
    return Expected(records)


def _valid(
    batch: pa.RecordBatch, verdicts: Sequence[object], schema: pa.Schema, contract: Contract
) -> dict[str, pa.Array]:
    taken = [(place, row) for place, row in enumerate(verdicts) if isinstance(row, tuple)]
    kept = batch.select(COORDINATES.names).take(pa.array([place for place, _ in taken], pa.int64()))
    own = {
        name: pa.array([row[i] for _, row in taken], schema.field(name).type) for i, name in enumerate(contract.columns)
    }
    return own | dict(zip(kept.schema.names, kept.columns, strict=True))


def _invalid(batch: pa.RecordBatch, verdicts: Sequence[object]) -> dict[str, pa.Array]:
    taken = [(place, one) for place, one in enumerate(verdicts) if isinstance(one, Rejected)]
    kept = batch.take(pa.array([place for place, _ in taken], pa.int64()))
    texts = [None if value is None else value.decode("utf-8", "replace") for value in kept["value"].to_pylist()]
    reasons = pa.array([list(one.reasons) for _, one in taken], pa.list_(pa.string()))
    own = {"value_text": pa.array(texts, pa.string()), "reasons": reasons}
    return own | dict(zip(kept.schema.names, kept.columns, strict=True))
