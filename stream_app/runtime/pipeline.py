"""A flow becomes a running query: its source, its layer and its sink, put together in one place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from stream_app import logs
from stream_app.admission import reset_journal, topic_epochs
from stream_app.admission.admit import Admission
from stream_app.feeds import schema
from stream_app.flows import unread
from stream_app.flows.batch import Batch, planned
from stream_app.flows.flow import Flow, Layer
from stream_app.layers.gold import gold
from stream_app.layers.sessions import sessions
from stream_app.observe.hints import Hints
from stream_app.settings import Settings
from stream_app.sinks import postgres, topic
from stream_app.sinks.batch import BatchSink, PartsWriter
from stream_app.sinks.dates import by_date
from stream_app.sinks.dedupe.staging import KeptRows
from stream_app.sinks.parts import Parts, Step, write_parts
from stream_app.sinks.protocol import Report
from stream_app.sources.layer import read_layer
from stream_app.sources.split_rows import Rows
from stream_app.sources.topic import read_topic
from stream_app.sources.topic_records import Records, offset_ranges, splits_of
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.offsets import in_layer
from stream_app.storage.planned import pinned

# What these layers do with a row, Python does alone: their queries' rows are splits, until the sink's tasks read them.
_READ_BY_SINK = {Layer.QUARANTINE, Layer.SILVER, Layer.RAW_CSV, Layer.LAKE}
_PREVIEWED = {Layer.SILVER, Layer.GOLD}
_PREVIEW_ROWS = 5
# Followers look at once again: their source waits for a file (sources/layer_reader.py).
_FOLLOW_INTERVAL = "0 seconds"


class Pipeline:
    """Starts the query of a flow, and writes its batches."""

    def __init__(self, spark: SparkSession, admission: Admission, settings: Settings) -> None:
        self._spark = spark
        self._admission = admission
        self._settings = settings
        self.hadoop = Hadoop(spark)
        self._sinks: dict[Flow, BatchSink] = {}
        self._hints = Hints()

    def start(self, flow: Flow, batch_function: Callable[[DataFrame, int], None]) -> StreamingQuery:
        """Check that the flow may go on from its checkpoint, then start its query.

        Raises ConfigError where it may not; then nothing was changed.
        """
        read_from = self._admission.admit(flow)
        self.hadoop.delete(flow.layout.staging)
        check = partial(self._admission.check_same_topic, flow, read_from)
        self._sinks[flow] = BatchSink(flow, self.hadoop, self._parts_writer(flow), check)
        frame = self._transform(flow)
        if flow.layer is Layer.TABLE:
            postgres.prepare(flow, self._settings, frame.schema)
        writer = (
            frame.writeStream.queryName(flow.name)
            .outputMode("update" if flow.layer is Layer.TABLE else "append")
            .option("checkpointLocation", f"file://{flow.checkpoint.path.absolute()}")  # Hadoop decodes no %20
            .foreachBatch(batch_function)
        )
        if self._settings.drains and flow.upstream is None:
            return writer.trigger(availableNow=True).start()
        interval = self._settings.trigger_interval if flow.upstream is None else _FOLLOW_INTERVAL
        return writer.trigger(processingTime=interval).start()

    def write(self, flow: Flow, frame: DataFrame, batch_id: int) -> Report:
        """Write a batch of the flow; its sink states the guarantee."""
        batch = planned(flow, batch_id)
        flow.checkpoint.flush(batch_id)
        if flow.upstream:
            read, end = in_layer(batch.start), in_layer(batch.end)
            self._admission.check_files(flow, read.batch, batch.inputs, end.batch)
        report = self._sink(flow)(batch, frame)
        if report.file:
            if flow.layer is Layer.QUARANTINE:
                self._hints.give(flow.name, report.file)
            if self._settings.show_previews and flow.layer in _PREVIEWED:
                self._preview(flow, report.file)
        return report

    def _transform(self, flow: Flow) -> DataFrame:
        feed = flow.feed
        if flow.layer is Layer.BRONZE:
            first_offsets = reset_journal.first_offsets(feed, flow.root, self._settings.starting_offsets)
            return read_topic(self._spark, feed, self._settings, first_offsets)
        splits = read_layer(self._spark, flow, self._settings)
        if flow.layer in _READ_BY_SINK:
            return splits
        rows = Rows(flow).frame(splits)
        if flow.layer is Layer.TOPIC:
            return rows
        if flow.is_windowed:
            return gold(rows, feed, flow.window)
        return sessions(rows, feed, flow.session, fresh=flow.layer is Layer.TABLE)

    def _sink(self, flow: Flow) -> Callable[[Batch, DataFrame], Report]:
        match flow.layer:
            case Layer.TOPIC:
                return partial(topic.send, flow, self._settings)
            case Layer.TABLE:
                return partial(postgres.upsert, flow, self.hadoop, self._settings)
            case _:
                return self._sinks[flow].write

    def _preview(self, flow: Flow, file: Path) -> None:
        time = "kafka_ts" if flow.layer is Layer.SILVER else "window_start"
        newest = pq.read_table(file).sort_by([(time, "descending")]).slice(0, _PREVIEW_ROWS)
        shown = [c.cast(pa.string()) if pa.types.is_timestamp(c.type) else c for c in newest.columns]  # of any year
        for row in pa.table(shown, newest.column_names).to_pylist():
            logs.info(f"{flow.name} preview", **row)

    def _parts_writer(self, flow: Flow) -> PartsWriter:
        if flow.layer is Layer.SILVER:
            return KeptRows(flow).write
        if flow.layer is Layer.BRONZE:
            return partial(self._write_records, flow)
        step = None
        if flow.layer in _READ_BY_SINK:
            rows = Rows(flow)
            step = Step(rows.columns, rows.read)
        if flow.layer is Layer.LAKE:
            return lambda frame, batch, folder: Parts(
                write_parts(flow, step, frame, folder, divided=by_date(flow, batch))
            )
        return lambda frame, _batch, folder: Parts(write_parts(flow, step, frame, folder))

    def _write_records(self, flow: Flow, frame: DataFrame, batch: Batch, folder: Path) -> Parts:
        reader, ranges = Records(flow, self._settings), offset_ranges(flow, batch, self._settings)
        step, splits = Step(schema.BRONZE, reader.read, reader.told), splits_of(ranges, frame.sparkSession)
        parts = write_parts(flow, step, splits, folder, pinned(batch.time_ms))
        lost = unread.joined(one for part in parts for one in part.told.unread)
        unread.note(flow, batch.id, lost)
        for one in lost:
            logs.warning(f"{flow.name} stepped over {one}", batch=batch.id, offsets=one.offsets)
        start = {part.partition: part.start for part in ranges}
        for partition, diverged in (found for part in parts for found in part.told.diverged.items()):
            logs.warning(topic_epochs.problem(flow.feed.topic, partition, start[partition], diverged))
        topic_epochs.keep(flow, batch.id, [part.told.read for part in parts])
        return Parts([part for part in parts if part.rows])
