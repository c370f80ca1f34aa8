"""KAFKA_CLIENT_*: each option of both clients is handed on or refused with a reason; no other is taken."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from pathlib import Path

import confluent_kafka
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.errors import ConfigError
from stream_app.kafka import options
from stream_app.kafka.client import check, client_config, source_options
from stream_app.settings import Settings, load_settings


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.chdir(tmp_path)
    yield monkeypatch


def _load(monkeypatch: pytest.MonkeyPatch, **given: str) -> Settings:
    for name, value in given.items():
        monkeypatch.setenv(f"KAFKA_CLIENT_{name}", value)
    return load_settings()


def of_librdkafka(folder: Path) -> set[str]:
    """Every option that the library lists itself."""
    libraries = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    library, c = ctypes.CDLL(str(next(libraries.glob("librdkafka*")))), ctypes.CDLL(None)
    c.fdopen.restype = ctypes.c_void_p
    listed = folder / "options"
    file = ctypes.c_void_p(c.fdopen(os.open(listed, os.O_WRONLY | os.O_CREAT), b"w"))
    library.rd_kafka_conf_properties_show(file)
    c.fclose(file)
    return set(re.findall(r"^([a-z][\w.]+) +\|", listed.read_text(), re.MULTILINE))


def test_each_optionof_librdkafka_is_handed_on_or_refused(tmp_path: Path) -> None:
    known = of_librdkafka(tmp_path)
    assert {"acks", "socket.timeout.ms"} < known
    assert known >= options.LIBRDKAFKA
    undecided = {name for name in known - options.LIBRDKAFKA if not list(options.problems({name: ""}))}
    assert not undecided


def test_no_option_is_both_handed_on_and_refused() -> None:
    for name in options.LIBRDKAFKA | options.JAVA.keys():
        assert not [line for line in options.problems({name: "1"}) if "is not" not in line], name


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("ENABLE_AUTO_COMMIT", "COMMIT_GROUP_OFFSETS=1"),
        ("AUTO_OFFSET_RESET", "STARTING_OFFSETS"),
        ("ISOLATION_LEVEL", "use KAFKA_ISOLATION_LEVEL"),
        ("GROUP_ID", "no consumer group"),
        ("ENABLE_IDEMPOTENCE", "none twice"),
        ("ACKS", "all replicas"),
        ("TRANSACTIONAL_ID", "none twice"),
        ("MAX_IN_FLIGHT_REQUESTS_PER_CONNECTION", "in order"),
        ("CHECK_CRCS", "always verified"),
        ("PARTITIONER", "a key keeps its partition"),
        ("KEY_DESERIALIZER", "loads code"),
        ("INTERCEPTOR_CLASSES", "loads code"),
        ("BOOTSTRAP_SERVERS", "use KAFKA_BOOTSTRAP_SERVERS"),
        ("SASL_PASSWORD", "use KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"),
        ("SSL_KEYSTORE_PASSWORD", "use KAFKA_SSL_CERTIFICATE_LOCATION"),
        ("SASL_JAAS_CONFIG", "use KAFKA_SASL_USERNAME"),
        (
            "REQUST_TIMEOUT_MS",
            "no client has an option requst.timeout.ms; did you mean KAFKA_CLIENT_REQUEST_TIMEOUT_MS?",
        ),
        ("TOKEN", "no client has an option token"),
    ],
)
def test_what_would_break_a_guarantee_or_nobody_knows_is_refused_without_its_value(
    load: pytest.MonkeyPatch, option: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^KAFKA_CLIENT_{option}: .*{re.escape(told)}") as error:
        _load(load, **{option: "zq"})
    assert "zq" not in str(error.value)


def test_each_client_gets_an_option_by_the_name_that_it_has(load: pytest.MonkeyPatch) -> None:
    kafka = _load(
        load,
        REQUEST_TIMEOUT_MS="45000",
        METADATA_MAX_AGE_MS="60000",
        CLIENT_RACK="eu-1a",
        QUEUED_MIN_MESSAGES="7",
        DEFAULT_API_TIMEOUT_MS="50000",
        SOCKET_SEND_BUFFER_BYTES="0",
        SSL_ENDPOINT_IDENTIFICATION_ALGORITHM="none",
        LOG_LEVEL="7",
    ).kafka
    check(kafka)
    assert client_config(kafka) == {
        "bootstrap.servers": "localhost:9094",
        "security.protocol": "plaintext",
        "socket.timeout.ms": "45000",
        "topic.metadata.refresh.interval.ms": "60000",
        "client.rack": "eu-1a",
        "queued.min.messages": "7",
        "socket.send.buffer.bytes": "0",
        "ssl.endpoint.identification.algorithm": "none",
        "log_level": "7",
    }
    assert source_options(kafka) == {
        "kafka.bootstrap.servers": "localhost:9094",
        "kafka.security.protocol": "PLAINTEXT",
        "kafka.isolation.level": "read_committed",
        "kafka.request.timeout.ms": "45000",
        "kafka.metadata.max.age.ms": "60000",
        "kafka.client.rack": "eu-1a",
        "kafka.default.api.timeout.ms": "50000",
        "kafka.send.buffer.bytes": "-1",
        "kafka.ssl.endpoint.identification.algorithm": "",
    }


def test_where_both_names_are_given_each_client_takes_its_own(load: pytest.MonkeyPatch) -> None:
    kafka = _load(load, REQUEST_TIMEOUT_MS="45000", SOCKET_TIMEOUT_MS="30000").kafka
    assert client_config(kafka)["socket.timeout.ms"] == "30000"
    assert source_options(kafka)["kafka.request.timeout.ms"] == "45000"


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("REQUEST_TIMEOUT_MS", "soon", "KAFKA_CLIENT_REQUEST_TIMEOUT_MS: 'soon' is not 0 to 2147483647"),
        ("SOCKET_TIMEOUT_MS", "-1", "KAFKA_CLIENT_SOCKET_TIMEOUT_MS: '-1' is not 0 to 2147483647"),
        ("ENABLE_METRICS_PUSH", "yes", "KAFKA_CLIENT_ENABLE_METRICS_PUSH: 'yes' is not true or false"),
        ("SASL_LOGIN_REFRESH_WINDOW_FACTOR", "2", "'2' is not 0.5 to 1.0"),
    ],
)
def test_a_value_that_java_would_not_take_is_refused(
    load: pytest.MonkeyPatch, option: str, value: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        _load(load, **{option: value})


@pytest.mark.parametrize(
    ("option", "value"), [("QUEUED_MIN_MESSAGES", "0"), ("BROKER_ADDRESS_FAMILY", "v5"), ("REQUEST_TIMEOUT_MS", "1")]
)
def test_a_value_that_librdkafka_would_not_take_is_refused_before_a_start(
    load: pytest.MonkeyPatch, option: str, value: str
) -> None:
    with pytest.raises(ConfigError, match=f"^KAFKA_CLIENT_{option}: ") as error:
        check(_load(load, **{option: value}).kafka)
    assert "\n" not in str(error.value)


def test_a_file_of_authorities_that_is_none_is_told_before_a_start(load: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing of the kind")
    load.setenv("KAFKA_SECURITY_PROTOCOL", "SSL")
    load.setenv("KAFKA_SSL_CA_LOCATION", "ca.pem")
    with pytest.raises(ConfigError, match=r"^KAFKA_SSL_CA_LOCATION: "):
        check(load_settings().kafka)


def test_they_are_read_where_the_other_settings_are(load: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for file in ("client_id", "client_rack", "debug"):
        (tmp_path / f"kafka_client_{file}").write_text(f"{file} of a file\n")
    lines = ("KAFKA_CLIENT_CLIENT_RACK=of .env", "kafka_client_debug=all", "KAFKA_CLIENT_LINGER_MS=")
    (tmp_path / ".env").write_text("\n".join(lines))
    load.setenv("KAFKA_CLIENT_DEBUG", "broker")
    found = load_settings(_secrets_dir=tmp_path).kafka.options
    assert found == {"client.id": "client_id of a file", "client.rack": "of .env", "debug": "broker"}


def test_the_prefix_alone_is_no_setting(load: pytest.MonkeyPatch) -> None:
    load.setenv("KAFKA_CLIENT", "x")
    with pytest.raises(ConfigError, match=r"^KAFKA_CLIENT: is no setting"):
        load_settings()


@given(st.dictionaries(st.sampled_from(sorted(options.LIBRDKAFKA | options.JAVA.keys())), st.just("1")))
def test_every_option_reaches_a_client(named: dict[str, str]) -> None:
    for name in named:
        one = {name: "1"}
        assert options.for_librdkafka(one) or options.for_java(one)
        assert options.named({options.setting(name).removeprefix(options.PREFIX).lower(): "1"}) == one
