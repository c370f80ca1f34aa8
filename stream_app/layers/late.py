"""Rows of a file of silver that are old, found by the file's statistics first."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream_app.feeds.footers import statistics_of
from stream_app.feeds.growth import lifted


def old_rows(file: pq.ParquetFile, columns: pa.Schema, event_time: str, before: int) -> pa.Table:
    """Return the rows of a file in those columns, whose event time is before that one, in microseconds.

    It closes the file.
    """
    with file:
        groups = statistics_of(file.metadata, event_time)
        time = file.schema_arrow.field(event_time).type
        at = pa.scalar(before, pa.int64()).cast(time)
        # the statistics spare reading the file, which nearly always holds nothing late
        old = [i for i, s in enumerate(groups) if s is None or not s.has_min_max or s.min_raw < before]
        rows = lifted(file.read_row_groups(old), columns) if old else columns.empty_table()
    return rows.filter(pc.less(rows[event_time], at))


def rounded_down(times: pa.ChunkedArray, step: int) -> pa.ChunkedArray:
    """Return the newest multiple of `step` that is not after each time; Arrow's division alone rounds towards 1970."""
    quotient = pc.multiply(pc.divide(times, step), step)
    return pc.if_else(pc.greater(quotient, times), pc.subtract(quotient, step), quotient)
