"""Wrong settings are one line that names them, exit code 2, and never show a secret."""

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer
from hypothesis import given
from hypothesis import strategies as st

from producer import client_options
from producer.__main__ import _given, _options, main
from producer.events import feeds
from producer.faults import Shares
from producer.publisher import client_config
from producer.settings import Settings, SettingsError, describe_settings, load_settings
from stream_app.kafka import options
from tests.unit.test_client_options import of_librdkafka

HIDDEN = "hunter2-never-shown"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # away from the checkout's own .env
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_without_settings_the_producer_sends_to_the_local_broker() -> None:
    settings = load_settings()
    assert settings.kafka_bootstrap_servers == "localhost:9094"
    assert (settings.msgs_per_sec, settings.count, settings.seed) == (5, 0, None)
    assert settings.backfill == timedelta(minutes=15)
    assert settings.shares(late=0.002) == Shares(bad=0.003, late=0.002, future=0.001, repeated=0.003)
    assert client_config(settings)["compression.type"] == "gzip"
    assert client_config(settings)["enable.idempotence"] is True


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka://localhost:9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:1,,b:2"),
        ("KAFKA_TOPIC", "a topic"),
        ("KAFKA_TOPIC", ".."),
        ("MSGS_PER_SEC", "-1"),
        ("MSGS_PER_SEC", "nan"),
        ("MSGS_PER_SEC", "inf"),
        ("MSGS_PER_SEC", "fast"),
        ("COUNT", "-1"),
        ("COUNT", "1.5"),
        ("SEED", "x"),
        ("SEED", "x\ny"),
        ("BACKFILL", "15"),
        ("BACKFILL", "15 fortnights"),
        ("BACKFILL", "-15 minutes"),
        ("BACKFILL", "9999999999 days"),
        ("BACKFILL", "999999 hours"),
        ("BAD_SHARE", "1.1"),
        ("LATE_SHARE", "-0.1"),
        ("FUTURE_SHARE", "nan"),
        ("REPEAT_SHARE", "2"),
        ("KAFKA_COMPRESSION", "rar"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        ("KAFKA_SASL_MECHANISM", "GSSAPI"),
        ("KAFKA_SSL_CA_LOCATION", "/no/such/file.pem"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_setting_is_one_line_naming_it_and_exit_code_2(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", HIDDEN)
    assert main([]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"producer: {name}: ")
    assert shown.err.count("\n") == 1
    assert HIDDEN not in shown.err + shown.out


def test_all_wrong_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNT", "x")
    monkeypatch.setenv("SEED", "y")
    with pytest.raises(SettingsError, match=r"COUNT: .*; SEED: "):
        load_settings()


def test_shares_that_exceed_the_whole_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAD_SHARE", "0.6")
    monkeypatch.setenv("LATE_SHARE", "0.6")
    with pytest.raises(SettingsError, match="BAD_SHARE"):
        load_settings()


@pytest.mark.parametrize(("late_share", "late"), [("", 0.05), ("0", 0.0), ("0.3", 0.3)])
def test_a_feeds_own_late_share_is_for_want_of_the_setting(
    late_share: str, late: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATE_SHARE", late_share)
    assert load_settings().shares(late=0.05).late == late


def test_a_feeds_own_late_share_yields_to_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAD_SHARE", "0.99")
    assert load_settings().shares(late=0.05).late == pytest.approx(0.006)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("0", timedelta()),
        ("1 second", timedelta(seconds=1)),
        ("90 seconds", timedelta(seconds=90)),
        ("1 minute", timedelta(minutes=1)),
        ("2 hours", timedelta(hours=2)),
        ("7 days", timedelta(days=7)),
    ],
)
def test_backfill_is_a_duration(text: str, span: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKFILL", text)
    assert load_settings().backfill == span


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20))
def test_any_text_as_backfill_is_a_span_or_a_plain_refusal(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BACKFILL", text)
        try:
            assert load_settings().backfill >= timedelta()
        except SettingsError as error:
            assert str(error).startswith("BACKFILL: ")
            assert "\n" not in str(error)


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "")
    assert load_settings().seed is None


def test_dotenv_may_hold_settings_of_the_app(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TRIGGER_INTERVAL=30 seconds\nMSGS_PER_SEC=7\n")
    assert load_settings().msgs_per_sec == 7


def test_a_dotenv_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"SEED=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"^\.env: "):
        load_settings()


def test_the_password_reaches_kafka_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": "writer",
        "KAFKA_SASL_PASSWORD": HIDDEN,
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert client_config(settings)["sasl.password"] == HIDDEN
    assert HIDDEN not in repr(settings) + str(settings) + settings.model_dump_json()


def test_an_unknown_feed_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--feed", "nope"]) == 2
    listed = ", ".join(feeds())
    assert capsys.readouterr().err == f"producer: --feed: there is no 'nope'; there is {listed}\n"


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert describe_settings() in shown
    assert all(name.upper() in shown for name in Settings.model_fields)


def test_options_take_precedence_over_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNT", "7")
    monkeypatch.setenv("BACKFILL", "1 hour")
    options = _options(["--bootstrap-servers", "b:1", "--topic", "t", "--interval", "0.1", "--count", "3"])
    settings = load_settings(**_given(options))
    assert (settings.kafka_bootstrap_servers, settings.kafka_topic, settings.count) == ("b:1", "t", 3)
    assert (settings.msgs_per_sec, settings.backfill) == (10, timedelta())
    assert load_settings(**_given(_options(["--interval", "0"]))).msgs_per_sec == 0
    untold = load_settings(**_given(_options([])))
    assert (untold.count, untold.backfill) == (7, timedelta(hours=1))


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--bootstrap-servers", "b", "KAFKA_BOOTSTRAP_SERVERS"),
        ("--topic", "a b", "KAFKA_TOPIC"),
        ("--count", "-1", "COUNT"),
        ("--interval", "-1", "--interval"),
        ("--interval", "nan", "--interval"),
        ("--interval", "1e-9", "--interval"),
    ],
)
def test_a_wrong_option_is_named(option: str, value: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main([f"{option}={value}"])
    except SystemExit as ended:  # argparse's own
        code = int(str(ended.code))
    assert code == 2
    assert told in capsys.readouterr().err


def test_client_options_are_handed_on_from_everywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text("KAFKA_CLIENT_CLIENT_RACK=of .env\nKAFKA_CLIENT_LOG_LEVEL=7\nKAFKA_CLIENT_DEBUG=\n")
    monkeypatch.setenv("KAFKA_CLIENT_CLIENT_RACK", "eu-1a")
    monkeypatch.setenv("KAFKA_CLIENT_CLIENT_ID", "mine")
    monkeypatch.setenv("KAFKA_CLIENT_DEFAULT_API_TIMEOUT_MS", "5000")  # the service's Java client has it
    config = client_config(load_settings())
    assert (config["client.rack"], config["client.id"], config["log_level"]) == ("eu-1a", "mine", "7")
    assert not {"debug", "default.api.timeout.ms", "log.level"} & config.keys()
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "KAFKA_CLIENT_*" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("BOOTSTRAP_SERVERS", "a:1", "use KAFKA_BOOTSTRAP_SERVERS"),
        ("ENABLE_IDEMPOTENCE", "false", "none twice"),
        ("ACKS", "0", "all replicas"),
        ("TRANSACTIONAL_ID", "a", "none twice"),
        ("COMPRESSION_TYPE", "lz4", "use KAFKA_COMPRESSION"),
        ("SASL_PASSWORD", HIDDEN, "use KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"),
        ("SSL_KEY_PEM", HIDDEN, "use KAFKA_SSL_KEY_LOCATION"),
        ("SASL_OAUTHBEARER_METHOD", "default", "use KAFKA_SASL_OAUTHBEARER_*"),
        ("VALUE_SERIALIZER", "a.b.C", "loads code"),
        ("PARTITIONER", "random", "a key keeps its partition"),
        ("ERROR_CB", "x", "sets it itself"),
        ("DELIVERY_REPORT_ONLY_ERROR", "true", "sets it itself"),
        ("LINGRE_MS", "5", 'the client refuses these settings: No such configuration property: "lingre.ms"'),
        ("SOCKET_TIMEOUT_MS", "soon", "the client refuses these settings: Invalid value"),
        ("SOCKET_TIMEOUT_MS", "0", "outside allowed range 10..300000"),
        ("DELIVERY_TIMEOUT_MS", "3", "must be greater than `linger.ms`"),
    ],
)
def test_a_client_option_that_is_not_handed_on_is_one_line_that_names_the_setting(
    option: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"KAFKA_CLIENT_{option}", value)
    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"producer: KAFKA_CLIENT_{option}: ")
    assert told in said
    assert said.count("\n") == 1
    assert HIDDEN not in said


def test_no_option_of_librdkafka_stops_the_client_but_by_a_line(tmp_path: Path) -> None:
    """What is not refused can be told as a text: confluent_kafka wants some as functions or objects."""
    for option in map(client_options.option_of, of_librdkafka(tmp_path)):
        if not client_options.problems([option]):
            with suppress(KafkaException):
                Producer({"bootstrap.servers": "localhost:1", "log_level": 0, option: "?"})


def test_what_the_service_alone_takes_is_passed_over() -> None:
    assert options.JAVA.keys() - options.LIBRDKAFKA == client_options.FOR_THE_SERVICE
