"""A connection's settings as the two clients take them: librdkafka, and Kafka's own inside of Spark."""

from __future__ import annotations

from stream_app.kafka.connection import KafkaConnection


def client_config(kafka: KafkaConnection) -> dict[str, str]:
    """Return the configuration of librdkafka; it holds the password."""
    config = {
        "bootstrap.servers": kafka.bootstrap_servers,
        # as librdkafka writes it: it compares by the locale, and in Turkish i is no small I
        "security.protocol": kafka.security_protocol.lower(),
    }
    if kafka.ca_location:
        config["ssl.ca.location"] = str(kafka.ca_location)
    if kafka.login:
        config |= {
            "sasl.mechanism": kafka.login.mechanism,
            "sasl.username": kafka.login.username,
            "sasl.password": kafka.login.password.get_secret_value(),
        }
    return config


def source_options(kafka: KafkaConnection) -> dict[str, str]:
    """Return the same as options of Spark's Kafka source.

    They hold the password; spark-defaults.conf keeps options named *jaas* out of the Spark UI.
    """
    options = {
        "kafka.bootstrap.servers": kafka.bootstrap_servers,
        "kafka.security.protocol": kafka.security_protocol,
        # a batch ends at the last stable offset: what is before that is decided
        "kafka.isolation.level": kafka.isolation_level,
    }
    if kafka.ca_location:
        options |= {"kafka.ssl.truststore.type": "PEM", "kafka.ssl.truststore.location": str(kafka.ca_location)}
    if kafka.login:
        module = "plain.PlainLoginModule" if kafka.login.mechanism == "PLAIN" else "scram.ScramLoginModule"
        username, password = (
            value.replace("\\", "\\\\").replace('"', '\\"')
            for value in (kafka.login.username, kafka.login.password.get_secret_value())
        )
        options |= {
            "kafka.sasl.mechanism": kafka.login.mechanism,
            "kafka.sasl.jaas.config": f"org.apache.kafka.common.security.{module} required "
            f'username="{username}" password="{password}";',
        }
    return options


def group(feed: str) -> str:
    """Return what brokers know the readers of the feed as, to allow or to count them."""
    return f"stream-app-{feed}"
