"""Quarantine's records with the time at which their batch of bronze was planned, by which `future` is judged."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.contract.times import EPOCH, microseconds
from stream_app.feeds.schema import FILE, PLANNED, ROW
from stream_app.flows.flow import Flow
from stream_app.layers.kind import QUARANTINE
from stream_app.ops import archive
from stream_app.ops.views import read, up_to
from stream_app.storage.planned import Planned
from stream_app.storage.row_counts import paths

__all__ = ["PLANNED", "with_plans"]

_PLACE = 'partition, "offset"'
_SPANS = pa.schema([("_name", pa.string()), ("_first", pa.int64()), (PLANNED, pa.int64())])
_TIMES = pa.schema([("_name", pa.string()), ("_time", pa.int64())])


def with_plans(database: duckdb.DuckDBPyConnection, bronze: Flow, last: int) -> str:
    """Return the SQL for quarantine's records up to batch `last` with PLANNED, in microseconds since the epoch.

    It is from bronze's files (storage/planned.py), or where RETENTION=prune has deleted these from an archive.
    Raises FilesChangedError where a file was merged across that batch.

    Where no archive has bronze's row either, it is the time of quarantine's own file, which is later: nothing that is
    ahead of our clock passes by that either.
    """
    quarantine = next(flow for flow in bronze.downstream if flow.sink == QUARANTINE)
    standing, refused = bronze.files(), up_to(quarantine.files(), last)
    plans, kept = [file.path for file in standing], archive.of(bronze, standing) if refused else None
    times = [{"_name": file.path.name, "_time": microseconds(file.time - EPOCH)} for file in refused]
    spans = [
        {"_name": path.name, "_first": first, PLANNED: time}
        for path in plans
        for first, _, time in Planned.of(pq.read_metadata(path)).spans()
    ]
    spans += [
        {"_name": one.file.path.name, "_first": first, PLANNED: time}
        for one in (kept.files if kept else ())
        for first, _, time in Planned.said(one.said, one.rows).spans()
    ]
    database.register("_spans", pa.Table.from_pylist(spans, _SPANS))
    database.register("_times", pa.Table.from_pylist(times, _TIMES))
    if not refused:
        return f"SELECT *, NULL::BIGINT AS {PLANNED} FROM ({read(quarantine, refused)})"
    records = f"(FROM {_read([file.path for file in refused])} JOIN _times ON parse_filename(_file) = _name)"
    known = list[str]()
    if plans:
        known.append(f"FROM {_read(plans)} SELECT {_PLACE}, parse_filename(_file) AS _name, file_row_number AS _row")
    if kept:
        known.append(f"FROM {kept.rows_sql} SELECT {_PLACE}, {FILE} AS _name, coalesce({ROW}, 0) AS _row")
    if not known:
        return f"SELECT *, _time AS {PLANNED} FROM {records}"
    places = (
        f"SELECT {_PLACE}, min({PLANNED}) AS {PLANNED} FROM ({' UNION ALL '.join(known)}) b ASOF JOIN _spans s "
        "ON b._name = s._name AND b._row >= s._first "
        f"WHERE ({_PLACE}) IN (SELECT ({_PLACE}) FROM {records}) GROUP BY ALL"
    )
    planned = f"coalesce({PLANNED}, _time) AS {PLANNED}"
    return f'SELECT * REPLACE ({planned}) FROM {records} LEFT JOIN ({places}) USING (partition, "offset")'


def _read(files: Iterable[Path]) -> str:
    named = "hive_partitioning = false, filename = '_file', file_row_number = true"
    return f"read_parquet({paths(files)}, {named})"
