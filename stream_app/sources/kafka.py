"""Kafka as a stream: the topic of a feed, read once, by bronze."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession

from stream_app.feed import Feed
from stream_app.settings import Settings

_POLLED_RECORDS = "5000"


def read_topic(spark: SparkSession, feed: Feed, settings: Settings, first_offsets: dict[str, str]) -> DataFrame:
    """The topic's records with Kafka's columns and their headers.

    `first_offsets` says where a new checkpoint begins (Spark's startingOffsets or startingTimestamp); one that
    stands goes on from where it was. Offsets are never committed to Kafka by Spark.
    """
    options = {
        "subscribe": feed.topic,
        "includeHeaders": "true",
        "failOnDataLoss": str(settings.fail_on_data_loss).lower(),
        "groupIdPrefix": f"stream-app-{feed.name}",
        # Spark asks for the partition's bounds after each poll; a fetch bounds what a poll can hold.
        "kafka.max.poll.records": _POLLED_RECORDS,
        **first_offsets,
        **connection(settings),
    }
    if settings.max_offsets_per_trigger:
        options["maxOffsetsPerTrigger"] = str(settings.max_offsets_per_trigger)
    return spark.readStream.format("kafka").options(**options).load()


def connection(settings: Settings) -> dict[str, str]:
    """The KAFKA_* settings, security included, as options of Spark's Kafka source and sink.

    They hold the password; spark-defaults.conf keeps options named *jaas* out of the Spark UI.
    """
    options = {
        "kafka.bootstrap.servers": settings.kafka_bootstrap_servers,
        "kafka.security.protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_ssl_ca_location:
        options |= {
            "kafka.ssl.truststore.type": "PEM",
            "kafka.ssl.truststore.location": str(settings.kafka_ssl_ca_location),
        }
    if settings.kafka_sasl_mechanism:
        module = "plain.PlainLoginModule" if settings.kafka_sasl_mechanism == "PLAIN" else "scram.ScramLoginModule"
        username, password = (
            value.replace("\\", "\\\\").replace('"', '\\"')
            for value in (settings.kafka_sasl_username, settings.kafka_sasl_password.get_secret_value())
        )
        options |= {
            "kafka.sasl.mechanism": settings.kafka_sasl_mechanism,
            "kafka.sasl.jaas.config": f"org.apache.kafka.common.security.{module} required "
            f'username="{username}" password="{password}";',
        }
    return options
