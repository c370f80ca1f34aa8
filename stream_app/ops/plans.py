"""Quarantine's records with the time at which their batch of bronze was planned, by which `future` is judged."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.contract.times import EPOCH, microseconds
from stream_app.feeds.schema import PLANNED
from stream_app.flows.flow import Flow
from stream_app.layers.kind import QUARANTINE
from stream_app.ops.views import read, up_to
from stream_app.storage.planned import Planned
from stream_app.storage.row_counts import paths

__all__ = ["PLANNED", "with_plans"]

_SPANS = pa.schema([("_name", pa.string()), ("_first", pa.int64()), (PLANNED, pa.int64())])
_TIMES = pa.schema([("_name", pa.string()), ("_time", pa.int64())])


def with_plans(database: duckdb.DuckDBPyConnection, bronze: Flow, last: int) -> str:
    """Return the SQL for quarantine's records up to batch `last` with PLANNED, in microseconds since the epoch.

    It is from bronze's files (storage/planned.py). Raises FilesChangedError where a file was merged across that batch.

    Where RETENTION=prune has taken bronze's row, it is the time of quarantine's own file, which is later: nothing
    that is ahead of our clock passes by that either.
    """
    quarantine = next(flow for flow in bronze.downstream if flow.sink == QUARANTINE)
    plans, refused = [file.path for file in bronze.files()], up_to(quarantine.files(), last)
    times = [{"_name": file.path.name, "_time": microseconds(file.time - EPOCH)} for file in refused]
    spans = [
        {"_name": path.name, "_first": first, PLANNED: time}
        for path in plans
        for first, _, time in Planned.of(pq.read_metadata(path)).spans()
    ]
    database.register("_spans", pa.Table.from_pylist(spans, _SPANS))
    database.register("_times", pa.Table.from_pylist(times, _TIMES))
    if not refused:
        return f"SELECT *, NULL::BIGINT AS {PLANNED} FROM ({read(quarantine, refused)})"
    records = f"(FROM {_read([file.path for file in refused])} JOIN _times ON parse_filename(_file) = _name)"
    if not plans:
        return f"SELECT *, _time AS {PLANNED} FROM {records}"
    places = (
        f'SELECT partition, "offset", min({PLANNED}) AS {PLANNED} FROM {_read(plans)} b ASOF JOIN _spans s '
        "ON parse_filename(b._file) = s._name AND b.file_row_number >= s._first "
        f'WHERE (partition, "offset") IN (SELECT (partition, "offset") FROM {records}) GROUP BY ALL'
    )
    planned = f"coalesce({PLANNED}, _time) AS {PLANNED}"
    return f'SELECT * REPLACE ({planned}) FROM {records} LEFT JOIN ({places}) USING (partition, "offset")'


def _read(files: Iterable[Path]) -> str:
    named = "hive_partitioning = false, filename = '_file', file_row_number = true"
    return f"read_parquet({paths(files)}, {named})"
