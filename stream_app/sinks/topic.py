"""Silver's rows as JSON on another Kafka topic.

Guarantee: at least once, but for records that the topic refuses. A batch that is run again sends its records again,
identical to the byte; whoever must see each once drops repeats by a header that identifies the record. What the topic
refuses for a fault of the record, as its size, is logged and counted, and the batch goes on: no retry can help. Silver
has the record. The topic is declared in the feed file.
"""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from stream_app import logs
from stream_app.failpoints import reach
from stream_app.feeds.parts import TopicSink
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.kafka.broker import Broker
from stream_app.settings import Settings
from stream_app.sinks.delivery import LARGEST_BYTES, TOLD, Delivery
from stream_app.sinks.protocol import REFUSED, Report

_TOLD_RECORDS = 20
"""How many refused records of a batch have a line of their own in the log."""
_TIME = "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'"


def messages(rows: DataFrame, declared: TopicSink, time_ms: int) -> DataFrame:
    """Silver's rows -> key, value, where the record stood, and a column for each header.

    The value is a JSON object of all columns, times in UTC with microseconds, and `processing_time`, the batch's own
    time, so that a replay is identical; the headers hold their columns as UTF-8 text.
    """
    processed = F.timestamp_millis(F.lit(time_ms)).alias("processing_time")
    # one column may be the key and a header, or twice a header
    headers = [F.col(name).cast("binary").alias(f"header_{number}") for number, name in enumerate(declared.headers)]
    return rows.select(
        F.col(declared.key).cast("binary").alias("key"),
        F.to_json(F.struct("*", processed), {"timestampFormat": _TIME}).cast("binary").alias("value"),
        "partition",
        "offset",
        *headers,
    )


def send(flow: Flow, settings: Settings, batch: Batch, frame: DataFrame) -> Report:
    """Send the batch's rows; return when each is acknowledged, or refused by the topic."""
    declared = flow.feed.topics[flow.sink]
    reach(flow.name, "before_staging", batch.id)
    cores = frame.sparkSession.sparkContext.defaultParallelism
    rows = messages(frame.coalesce(cores), declared, batch.time_ms)
    refused = rows.mapInArrow(Delivery(declared.topic, declared.headers, settings).send, TOLD).toArrow()
    if refused.num_rows:
        _tell(flow, declared.topic, Broker(settings.kafka), refused)
    reach(flow.name, "before_commit", batch.id)
    counters = {REFUSED: refused.num_rows}
    return Report(batch.id, batch.rows_in, batch.rows_in - refused.num_rows, counters=counters)


def _tell(flow: Flow, topic: str, broker: Broker, refused: pa.Table) -> None:
    """Log which records were refused: the first ones each, the others by partition."""
    limit = broker.largest_batch(topic)
    allowed = {"limit": min(limit, LARGEST_BYTES)} if limit else {}
    for record in refused.slice(0, _TOLD_RECORDS).to_pylist():
        logs.warning(f"{flow.name}: topic {topic} refused a record of topic {flow.feed.topic}", **record, **allowed)
    more = refused.slice(_TOLD_RECORDS)
    places = more.group_by("partition").aggregate([("offset", "min"), ("offset", "max"), ("offset", "count")])
    for place in places.sort_by("partition").to_pylist():
        logs.warning(
            f"{flow.name}: topic {topic} refused more records of topic {flow.feed.topic}",
            partition=place["partition"],
            records=place["offset_count"],
            first=place["offset_min"],
            last=place["offset_max"],
        )
