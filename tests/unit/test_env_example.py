""".env.example names every setting with its true default, and compose.yaml hands on what the containers may be told."""

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

from local.agent import BrokerSettings
from producer.settings import Settings as ProducerSettings
from stream_app.api.settings import ApiSettings
from stream_app.observe.lineage_settings import LineageSettings
from stream_app.settings import PROJECT, Settings

EXAMPLE = (PROJECT / ".env.example").read_text()
UNCOMMENTED = re.sub(r"^#(?=[A-Z_]+=)", "", EXAMPLE, flags=re.MULTILINE)
COMPOSE = (PROJECT / "compose.yaml").read_text()
# A setting for each option of Kafka's clients: one stands for them.
SERVICE = {name.upper() for name in Settings.model_fields} - {"KAFKA_CLIENT"} | {"KAFKA_CLIENT_REQUEST_TIMEOUT_MS"}
LINEAGE = {name.upper() for name in LineageSettings.model_fields}
# The client's own, which have no defaults of ours: docs/operations.md#openlineage.
OF_LINEAGE_CLIENT = {"OPENLINEAGE__TRANSPORT", "OPENLINEAGE_ENDPOINT", "OPENLINEAGE_DISABLED"}
API = {name.upper() for name in ApiSettings.model_fields}
PRODUCER = {name.upper() for name in ProducerSettings.model_fields} - {"KAFKA_CLIENT"}
BROKER = {name.upper() for name in BrokerSettings.model_fields}
# What local/compose_up.sh tells compose.yaml: the build's user, how many brokers there are, what follows from a secret.
OF_COMPOSE_UP = {"APP_UID", "APP_GID", "AIRFLOW_FERNET_KEY"} | set(
    re.findall(r"\$\{(KAFKA_(?:VO|BRO|REPLICAS)[A-Z_]+|KAFKA_REPLICAS)", COMPOSE)
)
OF_COMPOSE = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE)) - OF_COMPOSE_UP
# The containers have a broker and feeds of their own, and their API behind a socket.
NOT_HANDED_ON = {name for name in SERVICE if re.match("KAFKA_(SECURITY|SASL|SSL|HTTPS|CLIENT)_", name)} | {
    "FEEDS_PATH",
    "GOOGLE_APPLICATION_CREDENTIALS",  # a file of the machine
    "API_HOST",
    "API_PORT",
}


def test_nothing_is_set_by_copying_it() -> None:
    assert all(line.startswith("#") for line in EXAMPLE.splitlines() if line)


def test_each_setting_is_named_once_with_its_meaning() -> None:
    names = re.findall(r"^# [^-].*\n#([A-Z_]+)=", EXAMPLE, re.MULTILINE)
    assert len(names) == len(set(names)) == len(re.findall(r"^#[A-Z_]+=", EXAMPLE, re.MULTILINE))
    assert set(names) >= SERVICE | LINEAGE | API | PRODUCER | BROKER | OF_COMPOSE
    assert set(names) <= SERVICE | LINEAGE | API | PRODUCER | BROKER | OF_COMPOSE | {
        "COMPOSE_PROFILES",
        "SPARK_WORKER_CORES",
        "AIRFLOW__OPENLINEAGE__TRANSPORT",
    }


@pytest.mark.parametrize("kind", [Settings, ApiSettings, ProducerSettings, BrokerSettings])
def test_the_values_are_the_defaults(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SERVICE | LINEAGE | API | PRODUCER | BROKER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(PROJECT)  # FEEDS_PATH is given from there
    env_file = tmp_path / ".env"
    env_file.write_text(UNCOMMENTED)
    found, default = (kind(_env_file=file).model_dump() for file in (env_file, None))
    for value in (found, default):
        value["feeds_path"] = Path(value.get("feeds_path", "")).absolute()
    assert found == default


def test_the_images_and_ports_are_those_of_compose() -> None:
    values = dotenv_values(stream=StringIO(UNCOMMENTED))
    for name, default in re.findall(r"\$\{([A-Z_]+):-([^}$]+)\}", COMPOSE):
        if name not in OF_COMPOSE_UP | {
            "LOG_FORMAT",
            "METRICS_PORT",
            "REDIS_URL",
        }:  # theirs differ in containers
            assert values[name] == default, name


def test_compose_hands_on_every_setting() -> None:
    handed_on = set(re.findall(r"^ {2,6}([A-Z_]+):", COMPOSE, re.MULTILINE))
    assert handed_on >= (SERVICE | LINEAGE | OF_LINEAGE_CLIENT | PRODUCER | API) - NOT_HANDED_ON
    assert not handed_on & NOT_HANDED_ON


def test_the_tasks_of_airflow_look_where_the_service_writes() -> None:
    """As for tables at DELTA_PATH=s3://..., which `make up PROFILE=airflow` tells all containers."""
    services = yaml.safe_load(COMPOSE)["services"]
    service = services["stream-app"]["environment"]
    places = re.compile("KAFKA_BOOTSTRAP_SERVERS|OUTPUT_PATH|DATABASE_URL|DELTA_PATH|RETENTION_HOURS|(AWS|AZURE)_.*")
    due = {name: value for name, value in service.items() if places.fullmatch(name)}
    assert due.keys() >= {"DELTA_PATH", "DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_KEY"}
    for name in ("airflow-scheduler", "airflow-worker"):
        given = services[name]["environment"]
        assert given.items() >= due.items(), name
        assert given["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] != given["DATABASE_URL"], "Airflow's own is another one"
        assert given["LANDING_PATH"] == "/data/landing"
