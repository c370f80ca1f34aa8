"""Silver's rows as JSON on another Kafka topic.

Guarantee: at least once. A batch that is run again sends its records again, identical to the byte; whoever must see
each once drops repeats by a header that identifies the record. The topic is declared in the feed file.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from stream_app.declared import TopicSink
from stream_app.failpoints import reach
from stream_app.flow import Flow
from stream_app.rows import count_rows
from stream_app.settings import Settings
from stream_app.sinks.batch import Written
from stream_app.sources.kafka import connection

_TIME = "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'"


def messages(rows: DataFrame, declared: TopicSink, time_ms: int) -> DataFrame:
    """Silver's rows -> key, value, headers.

    The value is a JSON object of all columns, times in UTC with microseconds, and `processing_time`, the batch's own
    time, so that a replay is identical; the headers hold their columns as UTF-8 text.
    """
    processed = F.timestamp_millis(F.lit(time_ms)).alias("processing_time")
    headers = [
        F.struct(F.lit(name).alias("key"), F.col(name).cast("binary").alias("value")) for name in declared.headers
    ]
    return rows.select(
        F.col(declared.key).alias("key"),
        F.to_json(F.struct("*", processed), {"timestampFormat": _TIME}).alias("value"),
        F.array(*headers).cast("array<struct<key:string,value:binary>>").alias("headers"),
    )


def send(flow: Flow, settings: Settings, frame: DataFrame, batch_id: int) -> Written:
    """Send the batch's rows; returns when all are acknowledged."""
    declared, planned = flow.feed.topics[flow.sink], flow.checkpoint.planned(batch_id)
    reach(flow.name, "before_staging", batch_id)
    writer = messages(frame, declared, planned.time_ms).write.format("kafka")
    writer.options(topic=declared.topic, includeHeaders="true", **connection(settings)).save()
    reach(flow.name, "before_commit", batch_id)
    return Written(batch_id, sum(count_rows(file.path) for file in flow.taken(planned)), None)
