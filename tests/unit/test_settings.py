"""Configuration is closed: one line that names the setting, before Spark starts, and never a secret."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from producer.settings import load_settings as load_producer_settings
from stream_app.errors import ConfigError
from stream_app.kafka.client import client_config, source_options
from stream_app.settings import PROJECT, Settings, load_settings
from tests.authority import Authority

HIDDEN = "zq'x\"y\\w"
SASL = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "app",
    "KAFKA_SASL_PASSWORD": HIDDEN,
}

OAUTH = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
    "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": "https://login.example/token",
    "KAFKA_SASL_OAUTHBEARER_CLIENT_ID": "app",
    "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": HIDDEN,
}

Load = Callable[..., Settings]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    """Settings of those environment variables alone."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def load_from(secrets: Path | None = None, **environment: str) -> Settings:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return load_settings(**({"_secrets_dir": secrets} if secrets else {}))

    return load_from


def test_the_defaults_are_those_of_the_design(load: Load) -> None:
    settings = load()
    found: dict[str, Any] = settings.model_dump(include={"feeds", "output_path", "trigger_interval", "retention"})
    assert found == {
        "feeds": ("transactions",),
        "output_path": Path.cwd() / "data" / "output",
        "trigger_interval": "30 seconds",
        "retention": "compact",
    }
    assert (settings.max_offsets_per_trigger, settings.max_files_per_sink) == (500_000, 48)
    assert (settings.starting_offsets, settings.fail_on_data_loss) == ("earliest", True)
    assert (settings.spark_master, settings.spark_sql_shuffle_partitions) == ("local[*]", 4)
    assert not settings.trigger.drains
    assert settings.trigger.seconds == 30


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("TRIGGER_INTERVAL", "30"),
        ("TRIGGER_INTERVAL", "0 seconds"),
        ("TRIGGER_INTERVAL", "soon"),
        ("MAX_OFFSETS_PER_TRIGGER", "-1"),
        ("MAX_FILES_PER_SINK", "0"),
        ("MAX_FAILURES", "none"),
        ("RETENTION", "forever"),
        ("STARTING_OFFSETS", "middle"),
        ("FAIL_ON_DATA_LOSS", "perhaps"),
        ("LOG_FORMAT", "xml"),
        ("METRICS_PORT", "65536"),
        ("SPARK_DRIVER_MEMORY", "1 g"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("KAFKA_SSL_CA_LOCATION", "/no/such/file"),
        ("OUTPUT_PATH", "s3a://bucket/output"),
        ("OUTPUT_PATH", "hdfs://name/output"),
        ("OUTPUT_PATH", "file:///tmp/output"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(load: Load, name: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: ") as error:
        load(**{name: wrong})
    assert wrong in str(error.value)
    assert "\n" not in str(error.value)


def test_every_wrong_setting_is_named_at_once(load: Load) -> None:
    with pytest.raises(ConfigError) as error:
        load(RETENTION="forever", METRICS_PORT="-1")
    assert {"RETENTION", "METRICS_PORT"} == {part.split(":")[0] for part in str(error.value).split("; ")}


@pytest.mark.parametrize(
    ("login", "missing"),
    [(login, name) for login in (SASL, OAUTH) for name in sorted(login) if name != "KAFKA_SECURITY_PROTOCOL"],
)
def test_a_login_is_whole_or_refused_and_its_secret_is_never_shown(
    load: Load, login: dict[str, str], missing: str
) -> None:
    with pytest.raises(ConfigError, match=f"^KAFKA_SECURITY_PROTOCOL: SASL_SSL asks for .*{missing}") as error:
        load(**(login | {missing: ""}))
    assert HIDDEN not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"TOKEN_ENDPOINT_URL": "login.example/token"}, "_TOKEN_ENDPOINT_URL: is no URL"),
        ({"TOKEN_ENDPOINT_URL": "https://app:zq@login.example/token"}, "_TOKEN_ENDPOINT_URL: is no URL"),
        ({"EXTENSIONS": "tenant"}, "_EXTENSIONS: is no name=value"),
        ({"EXTENSIONS": "logical_cluster=a"}, "_EXTENSIONS: is no name=value"),
    ],
)
def test_what_no_oauth_server_or_broker_could_take_is_refused(load: Load, wrong: dict[str, str], told: str) -> None:
    changed = {f"KAFKA_SASL_OAUTHBEARER_{name}": value for name, value in wrong.items()}
    with pytest.raises(ConfigError, match=f"^KAFKA_SASL_OAUTHBEARER{told}") as error:
        load(**(OAUTH | changed))
    assert "zq" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"CERTIFICATE_LOCATION": "a.pem"}, "KAFKA_SSL_CERTIFICATE_LOCATION: is for SSL"),
        ({"KEY_LOCATION": "a.pem"}, "KAFKA_SSL_KEY_LOCATION: asks for KAFKA_SSL_CERTIFICATE_LOCATION"),
        ({"CERTIFICATE_LOCATION": "no.pem"}, "KAFKA_SSL_CERTIFICATE_LOCATION: there is no file /"),
        ({"KEY_LOCATION": "no.pem"}, "KAFKA_SSL_KEY_LOCATION: there is no file /"),
    ],
)
def test_a_certificate_that_no_client_would_show_is_refused(load: Load, given: dict[str, str], told: str) -> None:
    Path("a.pem").touch()
    with pytest.raises(ConfigError, match=told):
        load(**{f"KAFKA_SSL_{name}": value for name, value in given.items()})


def test_the_password_is_not_in_any_text_of_the_settings(load: Load) -> None:
    settings = load(**SASL)
    for text in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert "zq" not in text
    assert settings.kafka_sasl_password.get_secret_value() == HIDDEN


def test_a_wrong_setting_beside_a_password_shows_no_password(load: Load) -> None:
    with pytest.raises(ConfigError) as error:
        load(**(SASL | {"KAFKA_SASL_MECHANISM": "GSSAPI", "MAX_FAILURES": "0"}))
    assert HIDDEN not in str(error.value)
    assert repr(HIDDEN) not in str(error.value)


DATABASE = "postgresql://app:zq%40x@db.example:5433/shop"


def test_the_database_is_a_url_whose_password_is_in_no_text_of_the_settings(load: Load) -> None:
    assert load().database_url.get_secret_value() == ""
    settings = load(DATABASE_URL=DATABASE)
    for text in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert "zq" not in text
    assert settings.database_url.get_secret_value() == DATABASE


@pytest.mark.parametrize(
    "wrong",
    [
        "mysql://app:zq@host/db",
        "postgresql+psycopg://app:zq@host/db",
        "host=h password=zq",
        "postgresql://app:zq%xx@host/db",
        "postgresql://app@host/db?zq=1",
        "postgresql://app:s3c@zq@host/db",
        "postgresql://app:zq/ret@host/db",
        "postgresql://app:s3c@zq/ret@host/db",
    ],
)
def test_what_is_no_url_of_a_database_is_refused_without_a_word_of_it(load: Load, wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"^DATABASE_URL: is no URL such as [^\n]*$") as error:
        load(DATABASE_URL=wrong)
    assert "zq" not in str(error.value)


def test_spark_s_kafka_source_gets_the_password_where_it_is_redacted_and_quoted(load: Load) -> None:
    options = source_options(load(**SASL).kafka)
    assert [name for name, value in options.items() if "zq" in value] == ["kafka.sasl.jaas.config"]
    assert 'password="zq\'x\\"y\\\\w";' in options["kafka.sasl.jaas.config"]
    assert "scram.ScramLoginModule" in options["kafka.sasl.jaas.config"]
    assert _is_redacted("kafka.sasl.jaas.config")


def test_both_clients_fetch_tokens_by_the_same_settings(load: Load) -> None:
    more = {"SCOPE": "records", "EXTENSIONS": "tenant=a b, pool=c"}
    kafka = load(**OAUTH, **{f"KAFKA_SASL_OAUTHBEARER_{name}": value for name, value in more.items()}).kafka
    config = client_config(kafka)
    assert config["sasl.oauthbearer.client.secret"] == HIDDEN
    assert config["sasl.oauthbearer.extensions"] == "tenant=a b,pool=c"
    assert config["https.ca.location"] == "probe"
    options = source_options(kafka)
    assert [name for name, value in options.items() if "zq" in value] == ["kafka.sasl.jaas.config"]
    assert options["kafka.sasl.jaas.config"] == (
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
        'clientId="app" clientSecret="zq\'x\\"y\\\\w" scope="records" extension_tenant="a b" extension_pool="c";'
    )


def test_both_clients_show_the_same_certificate(load: Load, tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path, "authority").issue("app", password=HIDDEN)
    files = {"CERTIFICATE_LOCATION": str(certificate), "KEY_LOCATION": str(key), "KEY_PASSWORD": HIDDEN}
    kafka = load(KAFKA_SECURITY_PROTOCOL="SSL", **{f"KAFKA_SSL_{name}": value for name, value in files.items()}).kafka
    assert client_config(kafka) == {
        "bootstrap.servers": "localhost:9094",
        "security.protocol": "ssl",
        "ssl.certificate.location": str(certificate),
        "ssl.key.location": str(key),
        "ssl.key.password": HIDDEN,
    }
    options = source_options(kafka)
    assert options["kafka.ssl.keystore.certificate.chain"] == certificate.read_text()
    holders = [name for name, value in options.items() if "PRIVATE KEY" in value]
    assert holders == ["kafka.ssl.keystore.key"]
    assert _is_redacted(*holders)


@pytest.mark.parametrize("login", [{}, SASL, OAUTH | {"KAFKA_SASL_OAUTHBEARER_SCOPE": "records"}])
def test_the_producer_reaches_the_brokers_by_the_same_settings(
    load: Load, login: dict[str, str], tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.touch()
    files = {"KAFKA_SSL_CA_LOCATION": str(both), "KAFKA_SSL_CERTIFICATE_LOCATION": str(both)}
    service = load(**({"KAFKA_SECURITY_PROTOCOL": "SSL"} | login | files))
    assert load_producer_settings().connection_config() == client_config(service.kafka)


def _is_redacted(*options: str) -> bool:
    """Whether the Spark UI hides those options."""
    conf = (PROJECT / "conf" / "spark-defaults.conf").read_text()
    pattern = re.findall(r"^spark\.redaction\.regex\s+(\S+)$", conf, re.MULTILINE)
    return all(re.search(pattern[0], option) for option in options)


@pytest.mark.parametrize("carried", [SASL, {"DATABASE_URL": "postgresql://app:x@db/shop"}], ids=["kafka", "database"])
def test_a_cluster_whose_tasks_carry_a_password_needs_a_secret(load: Load, carried: dict[str, str]) -> None:
    """On one machine nothing is sent; Yarn and Kubernetes make a secret of their own."""
    assert load(**carried).spark.security == {}
    assert "spark.authenticate.secret" not in load(SPARK_MASTER="yarn").spark.security
    with pytest.raises(ConfigError, match=r"^SPARK_AUTH_SECRET: is not set, and tasks carry [A-Z_]+ to spark://m:7077"):
        load(SPARK_MASTER="spark://m:7077")
    settings = load(SPARK_AUTH_SECRET=HIDDEN)
    assert settings.spark.security == {
        "spark.authenticate": "true",
        "spark.authenticate.secret": HIDDEN,
        "spark.network.crypto.enabled": "true",
        "spark.io.encryption.enabled": "true",
    }
    assert HIDDEN not in repr(settings) + repr(settings.spark)


def test_a_cluster_without_passwords_needs_none(load: Load) -> None:
    assert load(SPARK_MASTER="spark://m:7077").spark.security == {}


def test_a_secret_may_be_a_file_of_its_name(load: Load, tmp_path: Path) -> None:
    """Where Docker and Kubernetes put secrets; the environment goes before it."""
    (tmp_path / "kafka_sasl_password").write_text("of-the-file\n")
    (tmp_path / "database_url").write_text("postgresql://app:zq@host/db")
    environment = {name: text for name, text in SASL.items() if name != "KAFKA_SASL_PASSWORD"}
    found = load(tmp_path, **environment)
    assert found.kafka_sasl_password.get_secret_value() == "of-the-file"
    assert found.database_url.get_secret_value() == "postgresql://app:zq@host/db"
    assert load(tmp_path, **SASL).kafka_sasl_password.get_secret_value() == SASL["KAFKA_SASL_PASSWORD"]


def test_a_path_is_from_the_root_on_with_a_home_for_its_tilde_and_links_before_its_dots(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    certificate = tmp_path / "home" / "ca.pem"
    certificate.parent.mkdir()
    certificate.touch()
    settings = load(OUTPUT_PATH="~/out put", FEEDS_PATH="~", KAFKA_SSL_CA_LOCATION="~/ca.pem")
    assert settings.output_path == tmp_path / "home" / "out put"
    assert (settings.feeds_path, settings.kafka_ssl_ca_location) == (tmp_path / "home", certificate)
    for given, meant in {
        "link/../out": tmp_path / "far" / "out",
        "link/out/": tmp_path / "link" / "out",
        f"../{tmp_path.name}/out": tmp_path / "out",
        "file:": tmp_path / "file:",
        "a~": tmp_path / "a~",
    }.items():
        assert load(OUTPUT_PATH=given).output_path == meant


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("~nobody-has-this-name/x", "~nobody-has-this-name is nobody's home"),
        ("a\nb", "line break"),
        (os.fsdecode(b"\xff"), "not UTF-8"),
        ("a\\b/c?", "a backslash"),
    ],
)
def test_a_path_that_cannot_be_is_refused(load: Load, path: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)OUTPUT_PATH: .*{problem}") as refused:
        load(OUTPUT_PATH=path)
    assert "\n" not in str(refused.value)


def test_feeds_are_a_list_of_names(load: Load) -> None:
    assert load(FEEDS=" one, two ,").feeds == ("one", "two")


def test_an_empty_variable_is_as_good_as_none(load: Load) -> None:
    assert load(OUTPUT_PATH="", METRICS_PORT="").output_path == Path.cwd() / "data" / "output"


def test_available_now_drains(load: Load) -> None:
    assert load(TRIGGER_INTERVAL="available-now").trigger.drains


def test_outputs_that_cannot_be_written_are_refused_before_a_jvm_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = {"PYTHONPATH": str(PROJECT), "OUTPUT_PATH": str(tmp_path / "file"), "JAVA_HOME": "/no/java"}
    command = [sys.executable, "-m", "stream_app"]
    done = subprocess.run(command, env=os.environ | settings, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"stream_app: OUTPUT_PATH: cannot write to {tmp_path / 'file'}: File exists\n"


@pytest.mark.parametrize("environment", [{"RETENTION": "forever"}, {"FEEDS": "../secrets"}, {"FEEDS": "nosuch"}])
def test_the_service_refuses_before_spark_starts_with_exit_2_and_one_line(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    settings = {"PYTHONPATH": str(PROJECT), "OUTPUT_PATH": str(tmp_path / "output")}
    command = [sys.executable, "-m", "stream_app"]
    done = subprocess.run(
        command, env=os.environ | settings | environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("stream_app: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "output").exists()
