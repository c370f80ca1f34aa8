"""KAFKA_CLIENT_*: further options of librdkafka, handed on unless they would break what the producer promises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SecretsSettingsSource

PREFIX = "kafka_client_"

REFUSED: tuple[tuple[str, str], ...] = (
    ("bootstrap.servers metadata.broker.list", "use KAFKA_BOOTSTRAP_SERVERS"),
    ("security.protocol", "use KAFKA_SECURITY_PROTOCOL"),
    ("compression.type compression.codec", "use KAFKA_COMPRESSION"),
    ("ssl.ca ssl.ca.* ssl.truststore.*", "use KAFKA_SSL_CA_LOCATION, a file in PEM"),
    ("ssl.certificate ssl.certificate.* ssl.keystore.*", "use KAFKA_SSL_CERTIFICATE_LOCATION, a file in PEM"),
    ("ssl.key ssl.key.*", "use KAFKA_SSL_KEY_LOCATION and KAFKA_SSL_KEY_PASSWORD"),
    ("sasl.mechanism sasl.mechanisms", "use KAFKA_SASL_MECHANISM"),
    ("sasl.username sasl.password sasl.jaas.config", "use KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"),
    ("https.ca.*", "use KAFKA_HTTPS_CA_LOCATION"),
    (
        "sasl.oauthbearer.* enable.sasl.oauthbearer.unsecure.jwt",
        "use KAFKA_SASL_OAUTHBEARER_*; tokens are fetched by client credentials alone",
    ),
    (
        "enable.idempotence acks request.required.acks max.in.flight max.in.flight.* retries message.send.max.retries"
        " enable.gapless.guarantee queuing.strategy transactional.id transaction.timeout.ms",
        "records are sent in order and none twice, to all replicas in sync",
    ),
    ("partitioner*", "a key keeps its partition, as other clients choose it"),
    ("allow.auto.create.topics", "a topic that nobody makes is asked for by name, which is when brokers make it"),
    (
        "*.class *.classes *.serializer interceptor* metric.reporters plugin.library.paths ssl.engine.*",
        "it loads code into the client",
    ),
    (
        "*.cb on.delivery error.cb logger default.topic.config delivery.report.* enabled.events internal.*"
        " log.queue msg.order.cmp opaque statistics.interval.ms",
        "the producer sets it itself, or it is no option for people",
    ),
)
"""Options, some by a pattern, and why they are not handed on."""

_FOR_THE_SERVICE = """
    auto.include.jmx.reporter default.api.timeout.ms exclude.internal.topics fetch.max.wait.ms metrics.num.samples
    metrics.recording.level metrics.sample.window.ms receive.buffer.bytes sasl.login.connect.timeout.ms
    sasl.login.read.timeout.ms sasl.login.refresh.buffer.seconds sasl.login.refresh.min.period.seconds
    sasl.login.refresh.window.factor sasl.login.refresh.window.jitter sasl.login.retry.backoff.max.ms
    sasl.login.retry.backoff.ms sasl.oauthbearer.header.urlencode sasl.oauthbearer.scope.claim.name
    send.buffer.bytes socket.connection.setup.timeout.max.ms ssl.enabled.protocols ssl.keymanager.algorithm
    ssl.protocol ssl.provider ssl.secure.random.implementation ssl.trustmanager.algorithm
"""
FOR_THE_SERVICE = frozenset(_FOR_THE_SERVICE.split())
"""What Java's client alone has. The service has such a client, and shares `.env`."""


class ClientOptions(PydanticBaseSettingsSource):
    """Reads KAFKA_CLIENT_* from the sources of the other settings; the first of them takes precedence."""

    def __init__(self, settings: type[BaseSettings], sources: Iterable[PydanticBaseSettingsSource]) -> None:
        super().__init__(settings)
        self._sources = tuple(sources)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Return nothing: what there is depends on no field."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return what the sources have."""
        found: dict[str, str | None] = {}
        for source in reversed(self._sources):
            if isinstance(source, EnvSettingsSource):  # .env, too
                found |= source.env_vars
            elif isinstance(source, SecretsSettingsSource) and source.secrets_dir:
                files = Path(str(source.secrets_dir)).glob(f"{PREFIX}*")
                found |= {file.name: file.read_text().strip() for file in files}
        return {"kafka_client": {option_of(name): value for name, value in found.items() if _is_given(name, value)}}


def setting(option: str) -> str:
    """Return the environment variable of an option."""
    return PREFIX.upper() + option.replace(".", "_").upper()


def option_of(name: str) -> str:
    """Return the option of a setting, which is in small letters."""
    option = name.removeprefix(PREFIX).replace("_", ".")
    return "log_level" if option == "log.level" else option  # all others that people may set have dots


def problems(options: Iterable[str]) -> list[str]:
    """Return a line for each option that is not handed on. librdkafka refuses unknown ones itself."""
    refused = [(name, why) for name in options for names, why in REFUSED if _matches(name, names)]
    return [f"{setting(name)}: {why}" for name, why in refused]


def for_librdkafka(options: Mapping[str, str]) -> dict[str, str]:
    """Return the options without the ones for the service alone."""
    return {name: value for name, value in options.items() if name not in FOR_THE_SERVICE}


def blamed(message: str, options: Iterable[str]) -> str:
    """Return the setting whose option librdkafka names; all that are given, or KAFKA_*, if it names none of them."""
    given = sorted(options, key=len)
    named = [option for option in given if option in message]
    return setting(named[-1]) if named else ", ".join(map(setting, given)) or "KAFKA_*"


def _is_given(name: str, value: str | None) -> bool:
    return name.startswith(PREFIX) and bool(value)


def _matches(name: str, patterns: str) -> bool:
    return name not in FOR_THE_SERVICE and any(fnmatchcase(name, pattern) for pattern in patterns.split())
