"""Kafka as a stream: the topic of a feed, followed once, by bronze."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession

from stream_app.feeds.feed import Feed
from stream_app.kafka.client import group, source_options
from stream_app.kafka.connection import KafkaConnection, OAuth
from stream_app.settings import Trigger

_ALLOWED_URLS = "org.apache.kafka.sasl.oauthbearer.allowed.urls"


def read_topic(
    spark: SparkSession,
    feed: Feed,
    kafka: KafkaConnection,
    trigger: Trigger,
    first_offsets: dict[str, str],
    *,
    fail_on_data_loss: bool,
) -> DataFrame:
    """Return the topic as a stream, for the offsets of each batch.

    The sink's tasks read its records (sources/topic_records.py). `first_offsets` says where a new checkpoint begins
    (Spark's startingOffsets or startingTimestamp). A checkpoint that has begun goes on from where it was. Spark never
    commits offsets to Kafka.
    """
    if isinstance(login := kafka.login, OAuth):
        # the client of Kafka 4 fetches tokens from nowhere else, and that of 3.9 then neither
        spark._jvm.java.lang.System.setProperty(_ALLOWED_URLS, login.token_endpoint_url)  # type: ignore[union-attr]
    options = {
        "subscribe": feed.topic,
        "failOnDataLoss": str(fail_on_data_loss).lower(),
        "groupIdPrefix": group(feed.name),
        **first_offsets,
        **source_options(kafka),
    }
    if trigger.max_records:
        options["maxOffsetsPerTrigger"] = str(trigger.max_records)
    return spark.readStream.format("kafka").options(**options).load()
