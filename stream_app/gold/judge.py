"""Landed files are judged by a feed's contract inside of Spark's tasks, which leave rows and quarantine as Parquet.

The lines never go through the JVM: a task opens the files, and writes what the contract makes of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import DateType, StructField, StructType

from stream_app.contract.contract import Contract
from stream_app.contract.references import Snapshots
from stream_app.errors import StreamAppError
from stream_app.feeds import schema as schemas
from stream_app.feeds.feed import Feed
from stream_app.feeds.schema import PINS, PLANNED
from stream_app.landing.lines import Line, read
from stream_app.landing.zone import LandedFile
from stream_app.layers.bronze import texts_of, times_of
from stream_app.layers.quarantine import refused
from stream_app.layers.reading import judged
from stream_app.layers.silver import rows_of
from stream_app.sinks.parts import attempt
from stream_app.storage.pins import NOTHING

EVENT_DATE, LANDED_DATE = "event_date", "landed_date"
"""The columns by which rows and quarantine are in folders: the day of the event time, and of landing; both in UTC."""
_TASK_BYTES = 16 << 20  # of compressed files: some hundred thousand records

Batches = Iterator[pa.RecordBatch]


@dataclass(frozen=True)
class Judged:
    """What tasks have left of the files of a feed."""

    rows: Path | None = None
    """A folder of Parquet files with silver's columns and EVENT_DATE, if there are any."""
    quarantine: Path | None = None
    """A folder of Parquet files with quarantine's columns and LANDED_DATE, if there are any."""
    days: Sequence[str] = ()
    """The days of the rows, in order."""
    counts: dict[Path, dict[str, int]] = field(default_factory=dict)
    """By file: how many records, rows and quarantined records."""


def silver_columns(feed: Feed) -> StructType:
    """Return the columns of a feed's table."""
    return StructType([*schemas.silver(feed), StructField(EVENT_DATE, DateType())])


QUARANTINE_COLUMNS = StructType([*schemas.QUARANTINE, StructField(LANDED_DATE, DateType())])


@dataclass(frozen=True)
class Reference:
    """By which reference data records are judged; a feed without lookups has none."""

    pin: str = NOTHING
    snapshots: Snapshots | None = None


NO_REFERENCE = Reference()


def judge(
    spark: SparkSession, feed: Feed, files: Sequence[LandedFile], folder: Path, by: Reference = NO_REFERENCE
) -> Judged:
    """Judge files; what comes of them is in the folder. Raises StreamAppError for a file that is damaged."""
    folder.mkdir(parents=True)
    parts = shares([(file, file.path.stat().st_size) for file in files], spark.sparkContext.defaultParallelism)
    numbers = spark.range(0, len(parts), 1, len(parts))
    told = numbers.mapInArrow(_task(feed, parts, folder, by), "told string").collect()
    found: list[dict[str, Any]] = [json.loads(row.told) for row in told]
    if problems := [one["problem"] for one in found if "problem" in one]:
        raise StreamAppError(f"{problems[0]}; restore the file, or move it out of the landing zone")
    return Judged(
        rows=_kept(folder / "rows", [path for one in found for path in one["rows"]]),
        quarantine=_kept(folder / "quarantine", [path for one in found for path in one["quarantine"]]),
        days=sorted({day for one in found for day in one["days"]}),
        counts={Path(path): counts for one in found for path, counts in one["counts"].items()},
    )


def _kept(folder: Path, parts: Sequence[str]) -> Path | None:
    """Move what the tasks told of to a folder: an attempt that was given up may have left files beside them."""
    if not parts:
        return None
    folder.mkdir()
    for path in map(Path, parts):
        path.rename(folder / path.name)
    return folder


def shares(files: Sequence[tuple[LandedFile, int]], cores: int) -> list[list[LandedFile]]:
    """Return the files in portions of about equal size, at least one a core where there are so many. Pure."""
    total = sum(size for _, size in files)
    most = max(1, min(_TASK_BYTES, -(-total // cores)))
    found: list[list[LandedFile]] = []
    room = 0
    for file, size in files:
        if room <= 0:
            found.append([])
            room = most
        found[-1].append(file)
        room -= size
    return found


def _task(
    feed: Feed, parts: Sequence[Sequence[LandedFile]], folder: Path, by: Reference
) -> Callable[[Batches], Batches]:
    def task(numbers: Batches) -> Batches:
        for batch in numbers:
            for number in batch.column(0).to_pylist():
                try:
                    told = _judged(feed, parts[number], folder, by)
                except (StreamAppError, FileNotFoundError) as error:  # told: Spark would try it again, and log stacks
                    told = {"problem": str(error)}
                yield pa.RecordBatch.from_pydict({"told": [json.dumps(told)]})

    return task


def _judged(feed: Feed, files: Sequence[LandedFile], folder: Path, by: Reference) -> dict[str, Any]:
    contract, name = Contract(feed, by.snapshots), attempt()
    rows = _Part(folder / f"rows-{name}.parquet", silver_columns(feed))
    quarantine = _Part(folder / f"quarantine-{name}.parquet", QUARANTINE_COLUMNS)
    invalid = to_arrow_schema(schemas.QUARANTINE, timezone="UTC")
    days, counts = set[str](), {}
    for file in files:
        before = rows.count, quarantine.count
        records = 0
        for lines in read(file):
            batch = bronze_of(lines, feed.topic, by.pin)
            found = judged(contract, batch)
            valid = rows_of(batch, contract, found)
            event_date = valid[feed.event_time.field].cast(pa.date32())
            days |= {day.isoformat() for day in event_date.unique().to_pylist()}
            rows.write([*valid.columns, event_date])
            kept = refused(batch, found, invalid)
            landed_date = pa.repeat(pa.scalar(file.hour.date(), pa.date32()), len(kept))
            quarantine.write([*kept.columns, landed_date])
            records += len(lines)
        came_to = {"rows": rows.count - before[0], "quarantined": quarantine.count - before[1]}
        counts[str(file.path)] = {"records": records, **came_to}
    return {"rows": rows.close(), "quarantine": quarantine.close(), "days": sorted(days), "counts": counts}


def bronze_of(lines: Sequence[Line], topic: str, pin: str = NOTHING) -> pa.RecordBatch:
    """Return lines as bronze has records, with PLANNED and PINS, without headers, which no verdict depends on."""
    columns = {
        "key": texts_of([line.key_bytes for line in lines]),
        "value": pa.array([line.value_bytes for line in lines], pa.binary()),
        "kafka_ts": times_of([line.kafka_ms for line in lines]),
        "topic": pa.repeat(pa.scalar(topic, pa.string()), len(lines)),
        "partition": pa.array([line.partition for line in lines], pa.int32()),
        "offset": pa.array([line.offset for line in lines], pa.int64()),
        PLANNED: pa.array([line.landed_ms * 1000 for line in lines], pa.int64()),
        PINS: pa.repeat(pa.scalar(pin, pa.string()), len(lines)),
    }
    return pa.RecordBatch.from_pydict(columns)


class _Part:
    """A Parquet file of a task, which is made with its first row."""

    def __init__(self, path: Path, columns: StructType) -> None:
        self.count = 0
        self._path, self._columns = path, to_arrow_schema(columns, timezone="UTC")
        self._writer: pq.ParquetWriter | None = None

    def write(self, columns: Sequence[pa.Array]) -> None:
        """Append columns, a row group of them."""
        if len(columns[0]):
            self._writer = self._writer or pq.ParquetWriter(
                self._path, self._columns, compression="lz4", store_decimal_as_integer=True
            )
            named = pa.RecordBatch.from_arrays(list(columns), names=self._columns.names)
            self._writer.write_batch(named.cast(self._columns))
            self.count += len(columns[0])

    def close(self) -> list[str]:
        """Finish the file; return its path, nothing where there is no row."""
        if self._writer is None:
            return []
        self._writer.close()
        return [str(self._path)]
