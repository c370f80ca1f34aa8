"""A streaming data source over the committed files of a layer; its offset is that layer's batch id.

Unlike Spark's file source it keeps no list of the paths it has seen, so checkpoints stay small for years. The committed
offset says exactly what a reader has taken, which retention needs. A compacted file is read as the batches that it
holds (sources/layer_reader.py).

A row of the stream is no record but a split, a share of the files. The task that gets it reads them
(sources/split_rows.py). So a record does not travel from Python to the JVM and back where only Python has something to
do with it.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession

from stream_app.contract.times import microseconds
from stream_app.flows.flow import Flow
from stream_app.settings import Trigger
from stream_app.sources.idle import IdleOptions
from stream_app.sources.layer_reader import LayerSource, Options
from stream_app.sources.split import SPLIT

_PATIENCE_SECONDS = 1.0
# A drain ends when each reader has said that there is no more.
_PATIENCE_IN_DRAIN_SECONDS = 0.2


def read_layer(spark: SparkSession, flow: Flow, trigger: Trigger) -> DataFrame:
    """Return a stream of splits of the layer before (sources/split_rows.py), some MAX_OFFSETS_PER_TRIGGER rows a batch.

    Files are taken whole, so a batch has at least one.
    """
    assert flow.upstream is not None  # noqa: S101 - bronze reads a topic
    ledger = flow.layout.replay.absolute() if flow.derives and flow.kind.takes_replayed else None
    splits = spark.sparkContext.defaultParallelism
    patience = _PATIENCE_IN_DRAIN_SECONDS if trigger.drains else _PATIENCE_SECONDS
    folder, prefix = flow.upstream.layout.output.absolute(), flow.upstream.sink
    idle, due = _idle(flow, trigger), flow.checkpoint.watermark_due()
    options = Options(folder, prefix, ledger, trigger.max_records, splits, patience, idle, due)
    source = _source_of(flow)
    spark.dataSource.register(source)
    return spark.readStream.format(source.name()).schema(SPLIT).option("reader", options.encoded()).load()


def _idle(flow: Flow, trigger: Trigger) -> IdleOptions | None:
    """Return when the flow's clock goes on without a record; a drain, which ends, does not wait for it."""
    idle, silver = flow.feed.event_time.idle, flow.upstream
    if flow.stateful is None or idle is None or trigger.drains:
        return None
    assert silver and silver.upstream  # noqa: S101 - what is made of silver, which is made of bronze
    bronze, root = silver.upstream, flow.root.absolute()
    files, checkpoint = (bronze.layout.output.absolute(), bronze.sink), silver.checkpoint.path.absolute()
    return IdleOptions(microseconds(idle), flow.feed.event_time.field, root, bronze.name, files, checkpoint)


def _source_of(flow: Flow) -> type[LayerSource]:
    """Return a source of the flow's own.

    Spark's planner threads write to the environment map of a registered source without a lock. Two queries that start
    at once on one source can spoil it. Then no later task of either can be deserialized (seen on 4.2.0).
    """
    format_name = f"layer_{flow.name}"  # with a dot, or two flows could have one name

    class Source(LayerSource):
        @classmethod
        def name(cls) -> str:
            return format_name

    return Source
