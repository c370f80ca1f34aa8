"""Rows that came after their window was final: gold cannot count them, so they are kept, with the window they missed.

Written by gold's batch before its own file. Guarantee: exactly once, as sinks/batch.py. Spark drops a row in batch N if
its window's end is not after the watermark that batch N-1 was planned with (IncrementalExecution, WatermarkPropagator:
the watermark for late events is the previous batch's); gold and late together hold every row of silver that is due.
Before there is one, Spark's watermark is 1970, and it drops what is older from the first batch on (seen on 4.2.0).
For sessions it is the row's own time, and no session is named: which one it would belong to, rows to come decide.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream_app.failpoints import reach
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.flows.lineage import signature
from stream_app.storage import parquet
from stream_app.storage.batch_files import batch_file
from stream_app.storage.filesystem import Hadoop

_MICROS = 1_000_000


def write_late(flow: Flow, hadoop: Hadoop, batch: Batch) -> int:
    """Keep the late rows of a batch, in silver's files that it takes; return their number.

    Columns as silver's, for windows after window_start and window_end.
    """
    target = batch_file(flow.layout.late, flow.layout.late_name, "parquet", batch.time_ms, batch.id)
    if target.path.exists():
        return int(pq.read_metadata(target.path).num_rows)
    found = (late_rows(flow, pq.ParquetFile(file.path), batch.late_watermark_ms) for file in batch.inputs)
    late = [rows for rows in found if rows.num_rows]
    if not late:
        return 0
    staged = flow.layout.late_staging / target.path.name
    staged.parent.mkdir(parents=True, exist_ok=True)
    table = pa.concat_tables(late).replace_schema_metadata(signature(flow))
    parquet.write(table.to_batches(), table.schema, staged)
    hadoop.publish(staged, target.path)
    reach(flow.name, "late_renamed", batch.id)
    return int(table.num_rows)


def late_rows(flow: Flow, file: pq.ParquetFile, watermark_ms: int) -> pa.Table:
    """Return the rows of a file of silver that are late; those of windows with each that they missed, newest first."""
    watermark = watermark_ms * 1000
    if not flow.is_windowed:
        return _old_rows(flow, file, watermark + 1).replace_schema_metadata(None)
    event_time, declared = flow.feed.event_time.field, flow.window
    length, every = (int(span.total_seconds()) * _MICROS for span in (declared.window, declared.every))
    ends_by = watermark // every * every  # the newest window end that is not after the watermark
    rows = _old_rows(flow, file, ends_by)
    for name, value in declared.where.items():
        rows = rows.filter(pc.equal(rows[name], value))
    time = rows[event_time].type
    newest = _rounded_down(rows[event_time].cast(pa.int64()), every)
    missed = [_with_window(rows, pc.subtract(newest, back), length, time) for back in range(0, length, every)]
    late = pa.concat_tables(missed).replace_schema_metadata(None)
    return late.filter(pc.less_equal(late["window_end"], pa.scalar(ends_by, pa.int64()).cast(time)))


def _old_rows(flow: Flow, file: pq.ParquetFile, before: int) -> pa.Table:
    """The rows of a file whose event time is before that one, in microseconds."""
    event_time = flow.feed.event_time.field
    with file:
        column = file.schema_arrow.get_field_index(event_time)
        groups = [file.metadata.row_group(i).column(column).statistics for i in range(file.num_row_groups)]
        time = file.schema_arrow.field(event_time).type
        at = pa.scalar(before, pa.int64()).cast(time)
        # the statistics spare reading the file, which nearly always holds nothing late
        old = [i for i, s in enumerate(groups) if s is None or not s.has_min_max or s.min_raw < before]
        rows = file.read_row_groups(old) if old else file.schema_arrow.empty_table()
    return rows.filter(pc.less(rows[event_time], at))


def _rounded_down(times: pa.ChunkedArray, step: int) -> pa.ChunkedArray:
    """The newest multiple of `step` that is not after each time; Arrow's division alone rounds towards 1970."""
    quotient = pc.multiply(pc.divide(times, step), step)
    return pc.if_else(pc.greater(quotient, times), pc.subtract(quotient, step), quotient)


def _with_window(rows: pa.Table, starts: pa.ChunkedArray, length: int, time: pa.DataType) -> pa.Table:
    windows = {"window_start": starts, "window_end": pc.add(starts, length)}
    for i, (name, values) in enumerate(windows.items()):
        rows = rows.add_column(i, name, values.cast(time))
    return rows
