"""KAFKA_CLIENT_*: further options of the two clients, handed on unless they would break a guarantee.

Each option of librdkafka 2.16 and of Kafka's Java client 3.9 is in one of the tables: a test compares them with the
libraries. librdkafka itself says which values it takes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

PREFIX = "KAFKA_CLIENT_"

_LIBRDKAFKA = """
    api.version.request.timeout.ms broker.address.family broker.address.ttl client.dns.lookup client.id client.rack
    compression.codec compression.level compression.type connections.max.idle.ms consume.callback.max.messages debug
    delivery.timeout.ms enable.metrics.push enable.random.seed enable.ssl.certificate.verification
    fetch.error.backoff.ms fetch.max.bytes fetch.message.max.bytes fetch.min.bytes fetch.queue.backoff.ms
    fetch.wait.max.ms linger.ms log.connection.close log.thread.name log_level max.partition.fetch.bytes
    max.poll.records message.copy.max.bytes message.timeout.ms metadata.max.age.ms
    metadata.recovery.rebootstrap.trigger.ms metadata.recovery.strategy produce.offset.report
    queue.buffering.backpressure.threshold queue.buffering.max.messages queue.buffering.max.ms
    queued.max.messages.kbytes queued.min.messages reconnect.backoff.jitter.ms reconnect.backoff.max.ms
    reconnect.backoff.ms request.timeout.ms retry.backoff.max.ms retry.backoff.ms sasl.oauthbearer.sub.claim.name
    socket.blocking.max.ms socket.connection.setup.timeout.ms socket.keepalive.enable socket.max.fails
    socket.nagle.disable socket.receive.buffer.bytes socket.send.buffer.bytes socket.timeout.ms ssl.crl.location
    ssl.curves.list ssl.endpoint.identification.algorithm ssl.providers ssl.sigalgs.list
    sticky.partitioning.linger.ms topic.blacklist topic.metadata.propagation.max.ms topic.metadata.refresh.fast.cnt
    topic.metadata.refresh.fast.interval.ms topic.metadata.refresh.interval.ms topic.metadata.refresh.sparse
"""
LIBRDKAFKA = frozenset(_LIBRDKAFKA.split())

_TEXT = "text"
_SWITCH = "true|false"
_INT, _LONG = 2**31 - 1, 2**63 - 1
_INT_FROM_0, _LONG_FROM_0 = f"0..{_INT}", f"0..{_LONG}"
_ANY_INT, _ANY_LONG = f"{-_INT - 1}..{_INT}", f"{-_LONG - 1}..{_LONG}"
JAVA: Mapping[str, str] = {
    "auto.include.jmx.reporter": _SWITCH,
    "client.dns.lookup": "resolve_canonical_bootstrap_servers_only|use_all_dns_ips",
    "client.id": _TEXT,
    "client.rack": _TEXT,
    "connections.max.idle.ms": _ANY_LONG,
    "default.api.timeout.ms": _INT_FROM_0,
    "enable.metrics.push": _SWITCH,
    "exclude.internal.topics": _SWITCH,
    "fetch.max.bytes": _INT_FROM_0,
    "fetch.max.wait.ms": _INT_FROM_0,
    "fetch.min.bytes": _INT_FROM_0,
    "max.partition.fetch.bytes": _INT_FROM_0,
    "max.poll.records": f"1..{_INT}",
    "metadata.max.age.ms": _LONG_FROM_0,
    "metadata.recovery.strategy": "none|rebootstrap",
    "metrics.num.samples": f"1..{_INT}",
    "metrics.recording.level": "DEBUG|INFO|TRACE",
    "metrics.sample.window.ms": _LONG_FROM_0,
    "receive.buffer.bytes": f"-1..{_INT}",
    "reconnect.backoff.max.ms": _LONG_FROM_0,
    "reconnect.backoff.ms": _LONG_FROM_0,
    "request.timeout.ms": _INT_FROM_0,
    "retry.backoff.max.ms": _LONG_FROM_0,
    "retry.backoff.ms": _LONG_FROM_0,
    "sasl.login.connect.timeout.ms": _ANY_INT,
    "sasl.login.read.timeout.ms": _ANY_INT,
    "sasl.login.refresh.buffer.seconds": "0..3600",
    "sasl.login.refresh.min.period.seconds": "0..900",
    "sasl.login.refresh.window.factor": "0.5..1.0",
    "sasl.login.refresh.window.jitter": "0.0..0.25",
    "sasl.login.retry.backoff.max.ms": _ANY_LONG,
    "sasl.login.retry.backoff.ms": _ANY_LONG,
    "sasl.oauthbearer.header.urlencode": _SWITCH,
    "sasl.oauthbearer.scope.claim.name": _TEXT,
    "sasl.oauthbearer.sub.claim.name": _TEXT,
    "send.buffer.bytes": f"-1..{_INT}",
    "socket.connection.setup.timeout.max.ms": _ANY_LONG,
    "socket.connection.setup.timeout.ms": _ANY_LONG,
    "ssl.enabled.protocols": _TEXT,
    "ssl.endpoint.identification.algorithm": "https|none",
    "ssl.keymanager.algorithm": _TEXT,
    "ssl.protocol": _TEXT,
    "ssl.provider": _TEXT,
    "ssl.secure.random.implementation": _TEXT,
    "ssl.trustmanager.algorithm": _TEXT,
}
"""What each may be, as Java's client checks it: a text, one of some, or a number between two."""

REFUSED: tuple[tuple[str, str], ...] = (
    ("bootstrap.servers bootstrap.controllers metadata.broker.list", "use KAFKA_BOOTSTRAP_SERVERS"),
    ("security.protocol", "use KAFKA_SECURITY_PROTOCOL"),
    ("isolation.level", "use KAFKA_ISOLATION_LEVEL"),
    ("ssl.ca.* ssl_ca ssl.truststore.*", "use KAFKA_SSL_CA_LOCATION, a file in PEM"),
    ("ssl.certificate.* ssl_certificate ssl.keystore.*", "use KAFKA_SSL_CERTIFICATE_LOCATION, a file in PEM"),
    ("ssl.key.* ssl_key", "use KAFKA_SSL_KEY_LOCATION and KAFKA_SSL_KEY_PASSWORD"),
    ("sasl.mechanism sasl.mechanisms", "use KAFKA_SASL_MECHANISM"),
    ("sasl.username sasl.password sasl.jaas.config", "use KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"),
    ("https.ca.*", "use KAFKA_HTTPS_CA_LOCATION"),
    ("sasl.oauthbearer.token.endpoint.url", "use KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL"),
    ("sasl.oauthbearer.client.id *.credentials.client.id", "use KAFKA_SASL_OAUTHBEARER_CLIENT_ID"),
    ("sasl.oauthbearer.client.secret *.credentials.client.secret", "use KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET"),
    ("sasl.oauthbearer.scope", "use KAFKA_SASL_OAUTHBEARER_SCOPE"),
    ("sasl.oauthbearer.extensions", "use KAFKA_SASL_OAUTHBEARER_EXTENSIONS"),
    (
        "sasl.oauthbearer.assertion.* sasl.oauthbearer.config sasl.oauthbearer.grant.type sasl.oauthbearer.method"
        " sasl.oauthbearer.metadata.* enable.sasl.oauthbearer.unsecure.jwt",
        "tokens are fetched by client credentials alone, since one of the two clients knows no other way",
    ),
    (
        "sasl.oauthbearer.clock.skew.seconds sasl.oauthbearer.expected.* sasl.oauthbearer.jwks.*",
        "it is the broker's: a client does not check its token",
    ),
    ("sasl.kerberos.*", "there is no Kerberos: KAFKA_SASL_MECHANISM lists what there is"),
    (
        "enable.auto.commit auto.commit.* enable.auto.offset.store offset.store.*",
        "offsets are kept in checkpoints; COMMIT_GROUP_OFFSETS=1 mirrors them for lag tools",
    ),
    ("auto.offset.reset", "no offset is skipped unseen; STARTING_OFFSETS says where a new bronze begins"),
    (
        "group.* session.timeout.ms heartbeat.interval.ms max.poll.interval.ms partition.assignment.strategy"
        " coordinator.query.interval.ms share.*",
        "no consumer group hands out partitions: tasks read the offsets that the driver has planned",
    ),
    ("check.crcs", "checksums are always verified, so that damage is seen"),
    (
        "enable.idempotence acks request.required.acks max.in.flight max.in.flight.* retries message.send.max.retries"
        " enable.gapless.guarantee queuing.strategy msg_order_cmp transactional.id transaction.timeout.ms",
        "records are sent in order and none twice, to all replicas in sync",
    ),
    ("partitioner", "a key keeps its partition, as other clients choose it"),
    (
        "message.max.bytes receive.message.max.bytes queue.buffering.max.kbytes batch.size batch.num.messages",
        "it is set for the largest record that a broker takes",
    ),
    ("allow.auto.create.topics", "a misspelt topic is an error; python -m stream_app topics makes those of FEEDS"),
    (
        "api.version.request api.version.fallback.ms broker.version.fallback",
        "the service needs what brokers have had since 2.1",
    ),
    ("ssl.cipher.suites", "the two clients have different names for them; choose them at the broker"),
    (
        "*.class *.classes *.deserializer interceptors metric.reporters security.providers plugin.library.paths"
        " ssl.engine.* ssl_engine_*",
        "it loads code into the client",
    ),
    (
        "*_cb builtin.features default_topic_conf delivery.report.only.error enable.partition.eof enabled_events"
        " internal.* log.queue opaque statistics.interval.ms",
        "the service sets it itself, or it is no option for people",
    ),
)
"""Options, some by a pattern, and why they are not handed on."""

# librdkafka's name, Java's. request.timeout.ms and metadata.max.age.ms are other things in librdkafka.
_SAME = {
    "fetch.wait.max.ms": "fetch.max.wait.ms",
    "socket.receive.buffer.bytes": "receive.buffer.bytes",
    "socket.send.buffer.bytes": "send.buffer.bytes",
    "socket.timeout.ms": "request.timeout.ms",
    "topic.metadata.refresh.interval.ms": "metadata.max.age.ms",
}
_SAME_IN_LIBRDKAFKA = {java: name for name, java in _SAME.items()}
# What switches it off, or leaves it to the system.
_SAME_VALUE = {
    "connections.max.idle.ms": ("0", "-1"),
    "socket.receive.buffer.bytes": ("0", "-1"),
    "socket.send.buffer.bytes": ("0", "-1"),
    "ssl.endpoint.identification.algorithm": ("none", ""),
}
_BY_SETTING = {name.replace(".", "_"): name for name in LIBRDKAFKA | JAVA.keys()}


def setting(option: str) -> str:
    """Return the environment variable of an option."""
    return PREFIX + option.replace(".", "_").upper()


def named(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the options by the clients' own names; `settings` are named as after the prefix, in small letters."""
    return {_BY_SETTING.get(name, name.replace("_", ".")): value for name, value in settings.items()}


def problems(options: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each option that no client is given, and for each value that Java's client would not take."""
    for name, value in options.items():
        if reason := next((why for names, why in REFUSED if _matches(name, names)), ""):
            yield f"{setting(name)}: {reason}"
        elif name not in LIBRDKAFKA | JAVA.keys():
            near = difflib.get_close_matches(name, LIBRDKAFKA | JAVA.keys(), 1)
            advice = f"; did you mean {setting(near[0])}?" if near else ""
            yield f"{setting(name)}: no client has an option {name}{advice}"
        elif (java := _SAME.get(name, name)) in JAVA and not takes(JAVA[java], _java_value(name, value) or value):
            yield f"{setting(name)}: {value!r} is not {JAVA[java].replace('|', ' or ').replace('..', ' to ')}"


def for_librdkafka(options: Mapping[str, str]) -> dict[str, str]:
    """Return the options that librdkafka has, by its names. Its own name goes before Java's for the same."""
    translated = {_SAME_IN_LIBRDKAFKA[name]: value for name, value in options.items() if name in _SAME_IN_LIBRDKAFKA}
    own = {name: value for name, value in options.items() if name in LIBRDKAFKA - _SAME_IN_LIBRDKAFKA.keys()}
    return {name: _librdkafka_value(name, value) for name, value in (translated | own).items()}


def for_java(options: Mapping[str, str]) -> dict[str, str]:
    """Return the options that Java's client has, by its names. Its own name goes before librdkafka's for the same."""
    translated = {_SAME[name]: _java_value(name, value) for name, value in options.items() if name in _SAME}
    return translated | {name: _java_value(name, value) for name, value in options.items() if name in JAVA}


def takes(spec: str, value: str) -> bool:
    """Return whether a value is what a line of JAVA says."""
    least, is_range, most = spec.partition("..")
    if not is_range:
        return spec == _TEXT or value in spec.split("|")
    number = float if "." in least else int
    try:
        return number(least) <= number(value) <= number(most)
    except ValueError:
        return False


def _java_value(name: str, value: str) -> str:
    librdkafka, java = _SAME_VALUE.get(name, ("", ""))
    return java if value == librdkafka else value


def _librdkafka_value(name: str, value: str) -> str:
    librdkafka, java = _SAME_VALUE.get(name, ("", ""))
    return librdkafka if value == java else value


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns.split())
