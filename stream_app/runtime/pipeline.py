"""A flow becomes a running query: its source, what is made of the rows and its sink, put together in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from stream_app.admission import reset_journal
from stream_app.admission.admit import Admission
from stream_app.flows.batch import planned
from stream_app.flows.flow import Flow
from stream_app.observe.promptness import Promptness
from stream_app.observe.samples import Samples
from stream_app.settings import Servers, Trigger
from stream_app.sinks.protocol import Tools, Writer, rows_of, sink_of
from stream_app.sinks.report import Report
from stream_app.sources.layer import read_layer
from stream_app.sources.lookups import Lookups
from stream_app.sources.split_rows import Rows
from stream_app.sources.topic import read_topic
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.offsets import in_layer

# Followers look at once again: their source waits for a file (sources/layer_reader.py).
_FOLLOW_INTERVAL = "0 seconds"


class Pipeline:
    """Starts the query of a flow, and writes its batches."""

    def __init__(
        self,
        spark: SparkSession,
        admission: Admission,
        servers: Servers,
        trigger: Trigger,
        samples: Samples,
        lookups: Mapping[str, Lookups] = MappingProxyType({}),
        *,
        starting_offsets: str,
    ) -> None:
        """`lookups` has the reference data of each feed that declares some, by its name."""
        self._lookups = lookups
        self._spark = spark
        self._admission = admission
        self._servers = servers
        self._trigger = trigger
        self._samples = samples
        self._promptness = Promptness(trigger.seconds)
        self._starting_offsets = starting_offsets
        self.hadoop = Hadoop(spark)
        self._writers: dict[Flow, Writer] = {}

    def start(self, flow: Flow, batch_function: Callable[[DataFrame, int], None]) -> StreamingQuery:
        """Check that the flow may go on from its checkpoint, then start its query.

        Raises ConfigError where it may not; then nothing was changed.
        """
        read_from = self._admission.admit(flow)
        frame, rows = self._read(flow)
        check = partial(self._admission.check_same_topic, flow, read_from)
        lookups = self._lookups.get(flow.feed.name)
        tools = Tools(self.hadoop, self._servers, self._admission.fail_on_data_loss, lookups, check)
        self._writers[flow] = sink_of(flow).writer(flow, rows, tools)
        self._writers[flow].prepare(rows.columns if rows else frame.schema)
        # a query without state brings each row once, in either mode
        is_fresh = flow.aggregate is not None and not flow.is_own
        writer = (
            frame.writeStream.queryName(flow.name)
            .outputMode("update" if is_fresh else "append")
            .option("checkpointLocation", f"file://{flow.checkpoint.path.absolute()}")  # Hadoop decodes no %20
            .foreachBatch(batch_function)
        )
        if self._trigger.drains and flow.upstream is None:
            return writer.trigger(availableNow=True).start()
        interval = self._trigger.interval if flow.upstream is None else _FOLLOW_INTERVAL
        return writer.trigger(processingTime=interval).start()

    def write(self, flow: Flow, frame: DataFrame, batch_id: int) -> Report:
        """Write a batch of the flow; its sink states the guarantee."""
        batch = planned(flow, batch_id)
        flow.checkpoint.flush(batch_id)
        if flow.upstream:
            read, end = in_layer(batch.start), in_layer(batch.end)
            self._admission.check_files(flow, read.batch, batch.inputs, end.batch)
        report = self._writers[flow].write(batch, frame)
        if report.file and flow.is_own:
            self._samples.show(flow, report.file)
        return replace(report, counters={**report.counters, **self._promptness.counters(flow, batch)})

    def _read(self, flow: Flow) -> tuple[DataFrame, Rows | None]:
        """Return what the query reads: splits, and what makes rows of them in the sink's tasks; or rows, and None."""
        if flow.upstream is None:
            first_offsets = reset_journal.first_offsets(flow.feed, flow.root, self._starting_offsets)
            fails = self._admission.fail_on_data_loss
            kafka, trigger = self._servers.kafka, self._trigger
            return read_topic(self._spark, flow.feed, kafka, trigger, first_offsets, fail_on_data_loss=fails), None
        splits = read_layer(self._spark, flow, self._trigger)
        rows = rows_of(flow)
        if flow.aggregate is None:  # what is done with a row, Python does alone
            return splits, rows
        return flow.aggregate.transform(rows.frame(splits), fresh=not flow.is_own), None
