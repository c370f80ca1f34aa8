"""A micro-batch becomes one file: staged, made whole, moved to its final name by one rename.

Guarantee: exactly once per batch, for POSIX file systems. Spark may run a batch again after a failure, with the same
offsets; the file's name derives from the batch alone, so a batch whose file stands is left as it is, and one that
died before its rename left nothing that a reader sees. An empty batch writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pyspark.sql import DataFrame

from stream_app.failpoints import reach
from stream_app.files import BatchFile, batch_file
from stream_app.flow import Flow, Layer
from stream_app.rows import count_rows
from stream_app.sinks import csv, parquet
from stream_app.sinks.hadoop import Hadoop
from stream_app.sinks.parts import write_parts


@dataclass(frozen=True)
class Written:
    """What became of a micro-batch: its rows, and its file unless it had none."""

    batch_id: int
    rows: int
    file: Path | None
    reasons: Mapping[str, int] = field(default_factory=dict)
    """How often each reason stands in a batch of quarantine."""
    late: int = 0
    """Rows of the batch that came after their window was final."""

    @property
    def bytes(self) -> int:
        """The size of the file."""
        return self.file.stat().st_size if self.file else 0


class BatchSink:
    """The foreachBatch function of a flow."""

    def __init__(self, flow: Flow, hadoop: Hadoop, before_publish: Callable[[], None]) -> None:
        """`before_publish` is called when a file is complete and not yet visible; if it raises, the batch fails."""
        self._flow = flow
        self._hadoop = hadoop
        self._before_publish = before_publish

    def write(self, frame: DataFrame, batch_id: int) -> Written:
        """Write the batch's file, unless it stands or there are no rows for it."""
        for standing in self._flow.files():
            if standing.first <= batch_id <= standing.last:
                frame.write.format("noop").mode("overwrite").save()  # each batch must commit the query's state
                return Written(batch_id, count_rows(standing.path), standing.path)
        time_ms = self._flow.checkpoint.planned(batch_id).time_ms
        target = batch_file(self._flow.output, self._flow.sink, self._flow.layer.extension, time_ms, batch_id)
        reach(self._flow.name, "before_staging", batch_id)
        rows = self._write(frame, target)
        reach(self._flow.name, "before_commit", batch_id)
        return Written(batch_id, rows, target.path if rows else None)

    def _write(self, frame: DataFrame, target: BatchFile) -> int:
        folder = self._flow.staging / str(target.first)
        self._hadoop.delete(folder)
        parts = write_parts(frame, folder.absolute(), self._flow.layer)
        if parts:
            reach(self._flow.name, "mid_staging", target.first)
            staged = self._merge([part.path for part in parts], folder / target.path.name)
            self._before_publish()
            reach(self._flow.name, "staged", target.first)
            self._hadoop.publish(staged, target.path)
            reach(self._flow.name, "renamed", target.first)
        self._hadoop.delete(folder)
        return sum(part.rows for part in parts)

    def _merge(self, parts: list[Path], merged: Path) -> Path:
        if self._flow.layer is Layer.RAW_CSV:
            csv.merge(self._flow.feed, parts, merged, headed=False)
            return merged
        if len(parts) == 1:
            return parts[0]
        parquet.merge(self._hadoop, parts, merged)
        return merged
