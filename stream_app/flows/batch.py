"""A micro-batch as it was planned: looked up once, by runtime/pipeline.py, and handed down to all that write it."""

from __future__ import annotations

from dataclasses import dataclass

from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import BatchFile
from stream_app.storage.offsets import Offset, in_layer
from stream_app.storage.row_counts import count_rows


@dataclass(frozen=True)
class Batch:
    """What a micro-batch is to read, and when it was planned; times in milliseconds since the epoch."""

    id: int
    time_ms: int
    watermark_ms: int
    """The watermark that it was planned with; 0 where there is none."""
    late_watermark_ms: int
    """The one of the batch before, by which Spark drops late rows."""
    start: Offset
    end: Offset
    inputs: tuple[BatchFile, ...]
    """The files of the layer before that it takes; none of a batch that reads a topic."""
    replayed: tuple[BatchFile, ...] = ()
    """The files of the ledger that it takes beside them."""

    @property
    def rows_in(self) -> int:
        """How many rows it takes of files; each file is counted once, by its footer."""
        return sum(count_rows(file.path) for file in (*self.inputs, *self.replayed))


def planned(flow: Flow, batch_id: int) -> Batch:
    """Return the flow's batch of that id, as its checkpoint and the files of the layer before have it.

    Raises FileNotFoundError for one that was never planned, and StreamAppError for one that cannot be read.
    """
    plan, start = flow.checkpoint.planned(batch_id), flow.start(batch_id)
    late_ms = flow.checkpoint.planned(batch_id - 1).watermark_ms if batch_id else 0
    inputs, replayed = flow.inputs(in_layer(start), in_layer(plan.end)) if flow.upstream else ((), ())
    times = (plan.time_ms, plan.watermark_ms, late_ms)
    return Batch(batch_id, *times, start, plan.end, tuple(inputs), tuple(replayed))
