"""The KAFKA_* settings as the two clients take them: librdkafka, and Kafka's own inside of Spark."""

from __future__ import annotations

from stream_app.feeds.feed import Feed
from stream_app.settings import Settings


def client_config(settings: Settings) -> dict[str, str]:
    """The KAFKA_* settings as librdkafka's; they hold the password."""
    config = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        # as librdkafka writes it: it compares by the locale, and in Turkish i is no small I
        "security.protocol": settings.kafka_security_protocol.lower(),
    }
    if settings.kafka_ssl_ca_location:
        config["ssl.ca.location"] = str(settings.kafka_ssl_ca_location)
    if settings.kafka_sasl_mechanism:
        config |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": settings.kafka_sasl_username,
            "sasl.password": settings.kafka_sasl_password.get_secret_value(),
        }
    return config


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
