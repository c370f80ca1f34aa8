"""The folder of Parquet that each dataset has of its own. All that follow the dataset read it.

Guarantee: exactly once, as sinks/batch.py. The tasks of bronze read Kafka themselves. Repeats are found by
sinks/dedupe/. Rows that a query with state has made come from Spark.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from pyspark.sql import DataFrame

from stream_app import logs
from stream_app.admission import topic_epochs
from stream_app.feeds.growth import Columns
from stream_app.flows import unread
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.layers.kind import Kind
from stream_app.sinks.batch import BatchSink, PartsWriter
from stream_app.sinks.dedupe.staging import WithoutRepeats
from stream_app.sinks.files import FileSink
from stream_app.sinks.parts import Parts, Step, write_parts
from stream_app.sinks.protocol import Tools, Writer
from stream_app.sinks.report import LOOKUP_FAILED
from stream_app.sources.lookups import Lookups
from stream_app.sources.split_rows import Rows
from stream_app.sources.topic_records import Records, offset_ranges, splits_of
from stream_app.storage import pins
from stream_app.storage.parquet import Parquet
from stream_app.storage.planned import pinned
from stream_app.storage.row_counts import read_parquet

_FORM = Parquet()


class OwnFolder(FileSink):
    """Where a dataset is, whatever sinks it has; no feed file declares it."""

    of: str = ""
    to: Literal["folder"] = "folder"

    def derives(self, kind: Kind) -> bool:  # noqa: ARG002 - of every dataset
        """Its query makes the dataset's rows."""
        return True

    def form(self, kind: Kind) -> Parquet:  # noqa: ARG002 - of every dataset
        """Return Parquet."""
        return _FORM

    def read(self, kind: Kind, columns: Columns, files: Sequence[Path]) -> str:  # noqa: ARG002 - of every dataset
        """Return the SQL that reads files."""
        return f"SELECT * FROM {read_parquet(files)}"

    def writer(self, flow: Flow, rows: Rows | None, tools: Tools) -> Writer:
        """Return what writes the records of a topic, rows without repeats, or any rows."""
        if flow.upstream is None:
            parts: PartsWriter = partial(_write_records, flow, tools)
        elif rows and flow.kind.drops_repeats:
            parts = WithoutRepeats(flow, rows).write
        else:
            return super().writer(flow, rows, tools)
        return BatchSink(flow, _FORM, tools.hadoop, parts, tools.before_publish)


def _write_records(flow: Flow, tools: Tools, frame: DataFrame, batch: Batch, folder: Path) -> Parts:
    reader = Records(flow, tools.servers.kafka, fail_on_data_loss=tools.fail_on_data_loss)
    ranges = offset_ranges(flow, batch, fail_on_data_loss=tools.fail_on_data_loss)
    says = {**pinned(batch.time_ms), **(pins.pinned(tools.lookups.pin()) if tools.lookups else {})}
    step, splits = Step(flow.kind.columns, reader.read, reader.told), splits_of(ranges, frame.sparkSession)
    parts = write_parts(flow, _FORM, step, splits, folder, says)
    lost = unread.joined(one for part in parts for one in part.told.unread)
    unread.note(flow, batch.id, lost)
    for one in lost:
        logs.warning(f"{flow.name} stepped over {one}", batch=batch.id, offsets=one.offsets)
    start = {part.partition: part.start for part in ranges}
    for partition, diverged in (found for part in parts for found in part.told.diverged.items()):
        logs.warning(topic_epochs.problem(flow.feed.topic, partition, start[partition], diverged))
    topic_epochs.keep(flow, batch.id, [part.told.read for part in parts])
    return Parts([part for part in parts if part.rows], _failures(tools.lookups) if tools.lookups else {})


def _failures(lookups: Lookups) -> dict[str, int]:
    found = {f"{LOOKUP_FAILED}{name}": count for name, count in lookups.failures.items()}
    lookups.failures.clear()
    return found
