"""A connection's settings as the two clients take them: librdkafka, and Kafka's own inside of Spark."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from confluent_kafka import Consumer, KafkaException

from stream_app.errors import ConfigError
from stream_app.kafka.connection import KafkaConnection, OAuth, Password
from stream_app.kafka.options import for_java, for_librdkafka, setting

_JAVA_SECURITY = "org.apache.kafka.common.security"


def check(kafka: KafkaConnection) -> None:
    """Raise ConfigError, one line that names the setting, where no client could be made of these settings."""
    if kafka.certificate:
        kafka.certificate.check()
    # without a broker and a login: nothing is asked for
    alone = replace(kafka, bootstrap_servers="", login=None, security_protocol=kafka.security_protocol.split("_")[-1])
    try:
        Consumer({**client_config(alone), "group.id": "none", "log_level": 0}).close()
    except KafkaException as error:
        cause = " ".join(error.args[0].str().split())
        raise ConfigError(f"{_blamed(kafka, cause)}: {cause}") from None


def _blamed(kafka: KafkaConnection, cause: str) -> str:
    """Return the setting whose option librdkafka names."""
    given = [name for name in kafka.options if any(own in cause for own in for_librdkafka({name: ""}))]
    if given:
        return setting(max(given, key=len))
    ours = re.search(r"\bssl\.[a-z.]+", cause)
    return f"KAFKA_{ours[0].replace('.', '_').upper()}" if ours else "KAFKA_*"


def client_config(kafka: KafkaConnection) -> dict[str, str]:
    """Return the configuration of librdkafka; it holds the secrets.

    What a client has by default goes before it, and gives way to KAFKA_CLIENT_*.
    """
    config = for_librdkafka(kafka.options) | {
        "bootstrap.servers": kafka.bootstrap_servers,
        # as librdkafka writes it: it compares by the locale, and in Turkish i is no small I
        "security.protocol": kafka.security_protocol.lower(),
    }
    if kafka.ca_location:
        config["ssl.ca.location"] = str(kafka.ca_location)
    if kafka.certificate:
        config |= {
            "ssl.certificate.location": str(kafka.certificate.location),
            "ssl.key.location": str(kafka.certificate.key_location),
        }
        if password := kafka.certificate.key_password.get_secret_value():
            config["ssl.key.password"] = password
    match kafka.login:
        case OAuth() as oauth:
            config |= _oauth_config(oauth)
        case Password(mechanism, username, secret):
            config |= {"sasl.mechanism": mechanism, "sasl.username": username}
            config["sasl.password"] = secret.get_secret_value()
    return config


def _oauth_config(oauth: OAuth) -> dict[str, str]:
    config = {
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": oauth.token_endpoint_url,
        "sasl.oauthbearer.client.id": oauth.client_id,
        "sasl.oauthbearer.client.secret": oauth.client_secret.get_secret_value(),
    }
    if oauth.scope:
        config["sasl.oauthbearer.scope"] = oauth.scope
    if oauth.extensions:
        config["sasl.oauthbearer.extensions"] = ",".join(f"{name}={value}" for name, value in oauth.extensions.items())
    # by itself the library looks where one distribution alone keeps them
    config["https.ca.location"] = str(oauth.ca_location or "probe")
    return config


def source_options(kafka: KafkaConnection) -> dict[str, str]:
    """Return the same as options of Spark's Kafka source. Raise ConfigError where a certificate is not to be used.

    They hold the secrets; spark-defaults.conf keeps options named *jaas* and *keystore* out of the Spark UI.
    """
    options = for_java(kafka.options) | {
        "bootstrap.servers": kafka.bootstrap_servers,
        "security.protocol": kafka.security_protocol,
        # a batch ends at the last stable offset: what is before that is decided
        "isolation.level": kafka.isolation_level,
    }
    if kafka.ca_location:
        options |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(kafka.ca_location)}
    if kafka.certificate:
        chain, key = kafka.certificate.for_java()
        options |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": chain,
            "ssl.keystore.key": key,
        }
    match kafka.login:
        case OAuth() as oauth:
            options |= _oauth_options(oauth)
        case Password(mechanism, username, secret):
            module = "plain.PlainLoginModule" if mechanism == "PLAIN" else "scram.ScramLoginModule"
            login = {"username": username, "password": secret.get_secret_value()}
            options |= {"sasl.mechanism": mechanism, "sasl.jaas.config": _jaas(module, login)}
    return {f"kafka.{name}": value for name, value in options.items()}


def _oauth_options(oauth: OAuth) -> dict[str, str]:
    login = {"clientId": oauth.client_id, "clientSecret": oauth.client_secret.get_secret_value()}
    if oauth.scope:
        login["scope"] = oauth.scope
    login |= {f"extension_{name}": value for name, value in oauth.extensions.items()}
    if oauth.ca_location:
        login |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(oauth.ca_location)}
    return {
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.login.callback.handler.class": f"{_JAVA_SECURITY}.oauthbearer.OAuthBearerLoginCallbackHandler",
        "sasl.oauthbearer.token.endpoint.url": oauth.token_endpoint_url,
        "sasl.jaas.config": _jaas("oauthbearer.OAuthBearerLoginModule", login),
    }


def _jaas(module: str, options: Mapping[str, str]) -> str:
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in options.values())
    told = " ".join(f'{name}="{value}"' for name, value in zip(options, quoted, strict=True))
    return f"{_JAVA_SECURITY}.{module} required {told};"


def group(feed: str) -> str:
    """Return what brokers know the readers of the feed as, to allow or to count them."""
    return f"stream-app-{feed}"
