"""Wrong settings are one line that names them, exit code 2, and never show a secret."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.__main__ import _given, _options, main
from producer.events import feeds
from producer.faults import Shares
from producer.publisher import client_config
from producer.settings import Settings, SettingsError, describe_settings, load_settings

HIDDEN = "hunter2-never-shown"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # away from the checkout's own .env
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_defaults() -> None:
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
