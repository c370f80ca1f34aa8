"""Rows that came after their window was final: windows cannot count them, so they are kept, with the one they missed.

Written by the batch before its own file. Guarantee: exactly once, as sinks/batch.py. Spark drops a row in batch N if
its window's end is not after the watermark that batch N-1 was planned with (IncrementalExecution, WatermarkPropagator:
the watermark for late events is the previous batch's). Gold and late together hold every row of silver that is due.
Before the first watermark it is 1970: Spark drops what is older from the first batch on (seen on 4.2.0).

Of sessions a row is late by its own time. No session is named, because rows to come decide which one it belongs to.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.failpoints import reach
from stream_app.flows.batch import Batch
from stream_app.flows.chain import signature
from stream_app.flows.flow import Flow
from stream_app.storage import idle_clocks, parquet
from stream_app.storage.batch_files import batch_file
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.offsets import in_layer


def write_late(flow: Flow, hadoop: Hadoop, batch: Batch) -> int:
    """Keep the late rows of a batch, in silver's files that it takes; return their number, 0 of a query without state.

    Columns as silver's, for windows after window_start and window_end.
    """
    if (stateful := flow.stateful) is None:
        return 0
    target = batch_file(flow.layout.late, flow.layout.late_name, "parquet", batch.time_ms, batch.id)
    if target.path.exists():
        return int(pq.read_metadata(target.path).num_rows)
    found = (stateful.missed(pq.ParquetFile(file.path), batch.late_watermark_ms) for file in batch.inputs)
    late = [rows for rows in found if rows.num_rows]
    if not late:
        return 0
    staged = flow.layout.late_staging / target.path.name
    staged.parent.mkdir(parents=True, exist_ok=True)
    pinned = idle_clocks.pinned(in_layer(batch.start).idle_clock)
    table = pa.concat_tables(late).replace_schema_metadata({**signature(flow), **pinned})
    parquet.write(table.to_batches(), table.schema, staged)
    hadoop.publish(staged, target.path)
    reach(flow.name, "late_renamed", batch.id)
    return int(table.num_rows)
