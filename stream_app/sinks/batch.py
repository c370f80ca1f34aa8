"""A micro-batch becomes one file, or in a lake one a date: staged, made whole, moved to its final name by one rename.

Guarantee: exactly once per batch, for POSIX file systems. Spark may run a batch again after a failure, with the same
offsets. The file's name derives from the batch alone, so a file that is there is left as it is. A batch that died
before its rename left nothing that a reader sees. An empty batch writes nothing. Some of a lake's files may be there
already when the batch runs again: the others join them.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from stream_app.contract.undeclared import counted
from stream_app.failpoints import reach
from stream_app.flows import chain
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.sinks.late import write_late
from stream_app.sinks.parts import Part, Parts
from stream_app.sinks.report import LATE, REASON, WARNED, Report
from stream_app.storage.batch_files import batch_file
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.form import Form

# A task of a driver that was killed lives on in its worker of a cluster, and numbers its files as ours do.
_DRIVER = secrets.token_hex(4)


PartsWriter = Callable[[DataFrame, Batch, Path], Parts]
"""What runs a batch and leaves its rows in a folder."""


class BatchSink:
    """Writes the batches of a flow."""

    def __init__(
        self,
        flow: Flow,
        form: Form,
        hadoop: Hadoop,
        write_parts: PartsWriter,
        before_publish: Callable[[], None],
    ) -> None:
        """Have `write_parts` run the batches.

        `before_publish` is called when a file is complete and not yet visible; if it raises, the batch fails.
        """
        self._flow = flow
        self._form = form
        self._hadoop = hadoop
        self._write_parts = write_parts
        self._before_publish = before_publish
        self._may_run_again = True
        """The first batch of a start may have died before; the batches after it are new."""

    def prepare(self, columns: StructType) -> None:  # noqa: ARG002 - a file has its batch's columns
        """Delete what an earlier start has left in the making."""
        self._hadoop.delete(self._flow.layout.staging)

    def write(self, batch: Batch, frame: DataFrame) -> Report:
        """Write the batch's files, unless they exist or there are no rows."""
        flow = self._flow
        late = {LATE: write_late(flow, self._hadoop, batch)} if flow.stateful else {}
        standing = [] if flow.is_divided else flow.files_of(batch.id)
        if standing:
            if flow.stateful:  # it has state, which each batch must commit
                frame.write.format("noop").mode("overwrite").save()
            files, parts = [standing[0].path], Parts([])
            rows = self._form.rows(files[0])
        else:
            reach(flow.name, "before_staging", batch.id)
            files, parts = self._write(batch, frame)
            rows = sum(part.rows for part in parts.parts)
            reach(flow.name, "before_commit", batch.id)
        rows_in = batch.rows_in if flow.upstream else rows
        size = sum(file.stat().st_size for file in files)
        counters = {**parts.counters, **late, **self._listed(files)}
        if files:
            chain.remember(flow, files[-1])
        return Report(batch.id, rows_in, rows, tuple(files), size, counters, parts.gauges)

    def _write(self, batch: Batch, frame: DataFrame) -> tuple[list[Path], Parts]:
        flow, folder = self._flow, self._flow.layout.staging / f"{batch.id}-{_DRIVER}"
        self._hadoop.delete(folder)
        written = self._write_parts(frame, batch, folder.absolute())
        parts = written.parts
        if parts:
            reach(flow.name, "mid_staging", batch.id)
        staged: dict[Path, Path] = {}
        for partition in sorted({part.partition for part in parts}):
            directory, extension = flow.layout.output / partition, self._form.extension
            target = batch_file(directory, flow.sink, extension, batch.time_ms, batch.id).path
            own = [part.path for part in parts if part.partition == partition]
            staged[target] = self._form.join(self._hadoop, own, folder / f"{partition}{target.name}")
        if staged:
            self._before_publish()
            reach(flow.name, "staged", batch.id)
        if flow.is_divided and self._may_run_again:
            self._agree(batch.id, parts)
        self._may_run_again = False
        for target, merged in staged.items():
            if flow.is_divided and target.exists():  # an earlier run of the batch has got this far
                continue
            self._hadoop.publish(merged, target)
            reach(flow.name, "renamed", batch.id)
        self._hadoop.delete(folder)
        return sorted(staged), written

    def _listed(self, files: Sequence[Path]) -> Counter[str]:
        """Return how often each reason is in the files of quarantine, or each rule that warns in those of silver."""
        found, kind = Counter[str](), self._flow.kind
        for prefix, column in ((REASON, kind.counted), (WARNED, kind.warned)):
            for file in files if column and self._flow.is_own else ():
                lists = pq.read_table(file, columns=[column])[column]
                found.update(f"{prefix}{counted(one)}" for one in pc.list_flatten(lists).to_pylist())
        return found

    def _agree(self, batch_id: int, parts: Sequence[Part]) -> None:
        """Delete what an earlier run of the batch wrote, if that divided its rows over the dates in another way.

        As after a change of `dates`: the old files and the new ones together would not hold each row once.
        """
        rows = Counter[Path]()
        for part in parts:
            rows[self._flow.layout.output / part.partition] += part.rows
        found = [file.path for file in self._flow.files_of(batch_id)]
        if any(self._form.rows(path) != rows[path.parent] for path in found):
            for path in found:
                self._hadoop.delete(path)
