"""A micro-batch becomes one file, or in a lake one a date: staged, made whole, moved to its final name by one rename.

Guarantee: exactly once per batch, for POSIX file systems. Spark may run a batch again after a failure, with the same
offsets; the file's name derives from the batch alone, so a batch whose file stands is left as it is, and one that
died before its rename left nothing that a reader sees. An empty batch writes nothing. Of a lake's several files some
may stand already when the batch runs again: the others join them.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyspark.sql import DataFrame

from stream_app.failpoints import reach
from stream_app.flows.flow import Flow, Layer
from stream_app.layers import raw_csv
from stream_app.sinks.parts import Part
from stream_app.storage import csv_files, parquet
from stream_app.storage.batch_files import batch_file
from stream_app.storage.checkpoint import PlannedBatch
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.row_counts import count_rows

# A task of a driver that was killed lives on in its worker of a cluster, and numbers its files as ours do.
_DRIVER = secrets.token_hex(4)


@dataclass(frozen=True)
class Written:
    """What became of a micro-batch: its rows, its newest file unless it had none, and the size of all its files."""

    batch_id: int
    rows: int
    file: Path | None
    bytes: int = 0
    rows_in: int = 0
    """How many rows of the layer before, or records of the topic, the batch took."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """How often each reason stands in a batch of quarantine."""
    repeats: int = 0
    """Rows of a batch of silver that were left out as repeats of others."""
    seen: int = 0
    """How many records silver could find repeats of."""
    seen_bytes: int = 0
    """The memory that these take."""
    late: int = 0
    """Rows of the batch that came after their window was final."""
    refused: int = 0
    """Rows of the batch that the topic of the sink refused."""


PartsWriter = Callable[[DataFrame, PlannedBatch, Path], list[Part]]
"""What runs a batch and leaves its rows in a folder."""


class BatchSink:
    """The foreachBatch function of a flow."""

    def __init__(
        self,
        flow: Flow,
        hadoop: Hadoop,
        write_parts: PartsWriter,
        before_publish: Callable[[], None],
    ) -> None:
        """Have `write_parts` run the batches.

        `before_publish` is called when a file is complete and not yet visible; if it raises, the batch fails.
        """
        self._flow = flow
        self._hadoop = hadoop
        self._write_parts = write_parts
        self._before_publish = before_publish
        self._may_run_again = True
        """The first batch of a start may have died before; those that follow are new."""

    def write(self, frame: DataFrame, batch_id: int) -> Written:
        """Write the batch's files, but for those that stand and where there are no rows."""
        flow = self._flow
        standing = [] if flow.layer is Layer.LAKE else flow.files_of(batch_id)
        if standing:
            if flow.drops_late:  # it has state, which each batch must commit
                frame.write.format("noop").mode("overwrite").save()
            path = standing[0].path
            return Written(batch_id, count_rows(path), path, path.stat().st_size)
        reach(flow.name, "before_staging", batch_id)
        written = self._write(frame, batch_id)
        reach(flow.name, "before_commit", batch_id)
        return written

    def _write(self, frame: DataFrame, batch_id: int) -> Written:
        flow, folder = self._flow, self._flow.layout.staging / f"{batch_id}-{_DRIVER}"
        batch = flow.checkpoint.planned(batch_id)
        self._hadoop.delete(folder)
        parts = self._write_parts(frame, batch, folder.absolute())
        if parts:
            reach(flow.name, "mid_staging", batch_id)
        staged: dict[Path, Path] = {}
        for partition in sorted({part.partition for part in parts}):
            directory, extension = flow.layout.output / partition, flow.layer.extension
            target = batch_file(directory, flow.sink, extension, batch.time_ms, batch_id).path
            own = [part.path for part in parts if part.partition == partition]
            staged[target] = self._merge(own, folder / f"{partition}{target.name}")
        if staged:
            self._before_publish()
            reach(flow.name, "staged", batch_id)
        if flow.layer is Layer.LAKE and self._may_run_again:
            self._agree(batch_id, parts)
        self._may_run_again = False
        for target, merged in staged.items():
            if flow.layer is Layer.LAKE and target.exists():  # an earlier run of the batch has got this far
                continue
            self._hadoop.publish(merged, target)
            reach(flow.name, "renamed", batch_id)
        self._hadoop.delete(folder)
        size = sum(target.stat().st_size for target in staged)
        return Written(batch_id, sum(part.rows for part in parts), max(staged, default=None), size)

    def _agree(self, batch_id: int, parts: Sequence[Part]) -> None:
        """Delete what an earlier run of the batch wrote, if that divided its rows over the dates in another way.

        As after a change of `dates`: what stands and what joins it would not be each row once.
        """
        rows = Counter[Path]()
        for part in parts:
            rows[self._flow.layout.output / part.partition] += part.rows
        found = [file.path for file in self._flow.files_of(batch_id)]
        if any(count_rows(path) != rows[path.parent] for path in found):
            for path in found:
                self._hadoop.delete(path)

    def _merge(self, parts: list[Path], merged: Path) -> Path:
        if self._flow.layer is Layer.RAW_CSV:
            csv_files.merge(raw_csv.header(self._flow.feed).encode(), parts, merged, headed=False)
            return merged
        if len(parts) == 1:
            return parts[0]
        parquet.merge(self._hadoop, parts, merged)
        return merged
