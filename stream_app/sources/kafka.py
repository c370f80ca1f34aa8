"""Kafka as a stream: the topic of a feed, followed once, by bronze."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession

from stream_app.feed import Feed
from stream_app.settings import Settings


def read_topic(spark: SparkSession, feed: Feed, settings: Settings, first_offsets: dict[str, str]) -> DataFrame:
    """The topic, for the offsets of each batch; its records are read by the sink's tasks (sources/records.py).

    `first_offsets` says where a new checkpoint begins (Spark's startingOffsets or startingTimestamp); one that
    stands goes on from where it was. Offsets are never committed to Kafka by Spark.
    """
    options = {
        "subscribe": feed.topic,
        "failOnDataLoss": str(settings.fail_on_data_loss).lower(),
        "groupIdPrefix": group(feed),
        # a batch ends at the last stable offset: what is before that is decided
        "kafka.isolation.level": settings.kafka_isolation_level,
        **first_offsets,
        **connection(settings),
    }
    if settings.max_offsets_per_trigger:
        options["maxOffsetsPerTrigger"] = str(settings.max_offsets_per_trigger)
    return spark.readStream.format("kafka").options(**options).load()


def group(feed: Feed) -> str:
    """What brokers know the readers of the feed as, to allow or to count them."""
    return f"stream-app-{feed.name}"


def connection(settings: Settings) -> dict[str, str]:
    """The KAFKA_* settings, security included, as options of Spark's Kafka source.

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
