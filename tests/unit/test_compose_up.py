"""`make up` chooses profiles, producers and the database's password; with a Docker that only notes what it is told."""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from local.agent import BrokerSettings
from local.places import ROOT
from producer.settings import Settings as ProducerSettings
from stream_app.api.settings import ApiSettings
from stream_app.observe.lineage_settings import LineageSettings
from stream_app.settings import Settings

DOCKER = """#!/bin/sh
exec 3>&2
case "$*" in
"compose config --environment") env; [ ! -e .env ] || cat .env ;;
"compose config --profiles") printf 'activity\\nairflow\\ncluster\\nmonitoring\\nreplicated\\nsales\\n' ;;
"compose config --services" | "compose --profile * ps --services") ;;
"compose config") echo "name: shop" ;;
"volume inspect shop_"*) [ -e volume ] ;;
*"stream-app python3 -m stream_app feeds"*)
    answer=$ANSWERS/$({ echo "$FEEDS"; cat "$FEEDS_PATH"/*.toml; } | cksum | tr ' ' -)
    [ -e "$answer" ] || (cd "$PROJECT" && exec "$PYTHON" -m stream_app feeds --format=json >"$answer.new" 2>&3) || exit
    [ -e "$answer" ] || mv "$answer.new" "$answer"
    cat "$answer" ;;
"compose up --build"*) echo "$* FEEDS=$FEEDS PROFILES=$COMPOSE_PROFILES PASSWORD=$POSTGRES_PASSWORD" >>told ;;
esac 2>/dev/null
"""
Up = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Docker keeps what the service said of FEEDS and feed files, so that it is asked once of each."""
    return tmp_path_factory.mktemp("answers")


@pytest.fixture
def up(tmp_path: Path, answers: Path) -> Up:
    """Run local/compose_up.sh in a project of its own, with those settings alone."""
    (tmp_path / "local").mkdir()
    (tmp_path / "deploy").mkdir()
    for script in ("compose_up.sh", "private_env.sh"):
        shutil.copy(ROOT / "local" / script, tmp_path / "local")
    shutil.copytree(ROOT / "conf" / "feeds", tmp_path / "conf" / "feeds")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(DOCKER)
    (tmp_path / "bin" / "docker").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.defpath}"

    def run(**settings: str) -> subprocess.CompletedProcess[str]:
        command = ["/bin/sh", str(tmp_path / "local" / "compose_up.sh")]
        image = {"PROJECT": str(ROOT), "PYTHON": sys.executable, "ANSWERS": str(answers)}
        environment = {"PATH": path, "FEEDS_PATH": str(tmp_path / "conf" / "feeds"), **image, **settings}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def told(folder: Path) -> str:
    return (folder / "told").read_text()


@pytest.mark.parametrize(
    ("settings", "feeds", "profiles", "idle"),
    [
        ({}, "transactions", "", ""),
        ({"FEEDS": "transactions, user_activity"}, "transactions,user_activity", "activity", ""),
        ({"PROFILE": "activity"}, "transactions,user_activity", "activity", ""),
        ({"COMPOSE_PROFILES": "activity"}, "transactions,user_activity", "activity", ""),
        ({"FEEDS": "user_activity"}, "user_activity", "activity", "--scale producer=0"),
        ({"FEEDS": "user_activity", "PROFILE": "cluster"}, "user_activity", "cluster,activity", "--scale producer=0"),
        ({"PROFILE": "activity", "FEEDS": "transactions"}, "transactions", "activity", "--scale producer-activity=0"),
        ({"PROFILE": "cluster,activity"}, "transactions,user_activity", "cluster,activity", ""),
        ({"FEEDS": "transactions,sales"}, "transactions,sales", "sales", ""),
        ({"PROFILE": "monitoring"}, "transactions", "monitoring", ""),
        ({"PROFILE": "airflow"}, "transactions", "airflow", ""),
        ({"PROFILE": "airflow", "AIRFLOW_EXECUTOR": "CeleryExecutor"}, "transactions", "airflow,airflow-celery", ""),
        ({"FEEDS": "sales", "PROFILE": "replicated"}, "sales", "replicated,sales", "--scale producer=0"),
    ],
)
def test_feeds_and_profiles_follow_each_other(
    up: Up, tmp_path: Path, settings: dict[str, str], feeds: str, profiles: str, idle: str
) -> None:
    assert up(**{**settings, "POSTGRES_PASSWORD": "p"}).returncode == 0
    expected = f"compose up --build --detach{idle and ' '}{idle} FEEDS={feeds} PROFILES={profiles} PASSWORD=p\n"
    assert told(tmp_path) == expected


def test_a_feed_that_gains_a_table_gets_a_database(up: Up, tmp_path: Path) -> None:
    with (tmp_path / "conf" / "feeds" / "transactions.toml").open("a") as feed:
        feed.write('\n[sinks.spent]\nof = "gold"\nto = "postgres"\ntable = "spent"\n')
    assert up().returncode == 0
    assert "--scale producer-activity=0 FEEDS=transactions PROFILES=activity" in told(tmp_path)


def test_a_mistake_in_a_feed_file_starts_no_container(up: Up, tmp_path: Path) -> None:
    (tmp_path / "conf" / "feeds" / "transactions.toml").write_text('topic = "t"\n')
    done = up()
    assert done.returncode == 2
    assert "transactions.toml" in done.stderr
    assert done.stderr.endswith("up: no container was started\n")
    assert not (tmp_path / "told").exists()


def test_the_password_is_made_once_and_kept_for_those_who_may_know(up: Up, tmp_path: Path) -> None:
    for _ in range(2):
        assert up(PROFILE="activity").returncode == 0
    made = (tmp_path / ".env").read_text()
    assert made.startswith("POSTGRES_PASSWORD=")
    assert len(made.strip().partition("=")[2]) == 32
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert told(tmp_path).count(made.partition("=")[2]) == 2


def test_grafana_s_password_is_made_once_and_what_it_reads_is_for_all_to_read(up: Up, tmp_path: Path) -> None:
    board = tmp_path / "deploy" / "board.json"
    board.touch(mode=0o600)
    for _ in range(2):
        assert up(PROFILE="monitoring").returncode == 0
    assert (tmp_path / ".env").read_text().count("GRAFANA_PASSWORD=") == 1
    assert stat.S_IMODE(board.stat().st_mode) == 0o644


def test_a_made_password_gets_a_line_of_its_own(up: Up, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("RETENTION=keep")
    assert up(PROFILE="activity").returncode == 0
    assert (tmp_path / ".env").read_text().startswith("RETENTION=keep\nPOSTGRES_PASSWORD=")


def test_without_a_database_there_is_no_password(up: Up, tmp_path: Path) -> None:
    assert up().returncode == 0
    assert not (tmp_path / ".env").exists()


def test_a_cluster_s_secret_is_made_once_and_the_database_s_beside_it(up: Up, tmp_path: Path) -> None:
    for _ in range(2):
        assert up(PROFILE="cluster,activity").returncode == 0
    names = [line.partition("=")[0] for line in (tmp_path / ".env").read_text().splitlines()]
    assert names == ["POSTGRES_PASSWORD", "SPARK_AUTH_SECRET"]
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_airflow_s_secrets_are_made_once_and_its_folders(up: Up, tmp_path: Path) -> None:
    for _ in range(2):
        assert up(PROFILE="airflow").returncode == 0
    made = dict(line.split("=") for line in (tmp_path / ".env").read_text().splitlines())
    assert list(made) == ["AIRFLOW_POSTGRES_PASSWORD", "AIRFLOW_PASSWORD", "AIRFLOW_SECRET"]
    assert len({*made.values()}) == 3
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"gold", "landing", "output", "reports"}


SETTINGS = (Settings, ApiSettings, LineageSettings, BrokerSettings, ProducerSettings)
SECRETS = {
    name.upper()
    for settings in SETTINGS
    for name, field in settings.model_fields.items()
    if "SecretStr" in repr(field.annotation)
}


def test_the_settings_of_every_program_are_looked_at() -> None:
    """Else a secret of one that is not named here would be none."""
    texts = [path.read_text() for part in ("stream_app", "producer", "local") for path in (ROOT / part).rglob("*.py")]
    declared = {name for text in texts for name in re.findall(r"^class (\w*Settings)\(", text, re.MULTILINE)}
    assert {one.__name__ for leaf in SETTINGS for one in leaf.__mro__} & declared == declared
    assert {"REDIS_URL", "OPENLINEAGE_API_KEY", "API_JWT_SECRET", "KAFKA_SASL_PASSWORD", "AWS_SESSION_TOKEN"} < SECRETS


def private_env(folder: Path) -> str:
    """What `make up` says once it has looked at .env."""
    script = ["/bin/sh", str(folder / "local" / "private_env.sh"), "up"]
    return subprocess.run(script, capture_output=True, text=True, check=True).stdout


LINES = ["{}=x", "export {} = 'x'", "A=1\n  {}=x"]
WITH_A_LOGIN = [
    "REDIS_URL=redis://:pw@h",
    "OPENLINEAGE_URL=https://u:p@h",
    "export HTTPS_PROXY='http://u:p@proxy:3128'",
    "openlineage_url = https://token@h/x",
    'AIRFLOW__OPENLINEAGE__TRANSPORT={"type":"http","auth":{"type":"api_key","apiKey":"x"}}',
    "OPENLINEAGE__TRANSPORT__AUTH__APIKEY=x",
]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        *((name, line) for name in sorted({*SECRETS, "POSTGRES_PASSWORD"}) for line in LINES),
        *((name.lower(), "{}=x") for name in sorted(SECRETS)),
        *(("", line) for line in WITH_A_LOGIN),
    ],
)
def test_an_env_with_a_secret_is_made_its_owner_s_alone(up: Up, tmp_path: Path, name: str, line: str) -> None:
    """By the script that `make up` calls, and once by `make up`, which asks Docker for more."""
    env = tmp_path / ".env"
    env.write_text(line.format(name) if name else line)
    env.chmod(0o644)
    is_all = (name, line) == ("POSTGRES_PASSWORD", "{}=x")
    first = up().stdout if is_all else private_env(tmp_path)
    assert "up: .env holds a password, and others could read it: its mode is 0600 now" in first
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert "up: .env" not in (up().stdout if is_all else private_env(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        *("RETENTION=keep", "#POSTGRES_PASSWORD=x", "DATABASE_URL=", "# SECRET=x", "redis_url="),
        *("OPENLINEAGE_URL=https://h:5000", "KAFKA_TOPIC=a@b", "#REDIS_URL=redis://:pw@h"),
        "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL=https://h/token",
    ],
)
def test_an_env_without_one_is_left_as_it_is(up: Up, tmp_path: Path, text: str) -> None:
    env = tmp_path / ".env"
    env.write_text(text)
    env.chmod(0o644)
    assert "up: .env" not in up().stdout
    assert stat.S_IMODE(env.stat().st_mode) == 0o644


def test_a_database_whose_password_was_lost_is_not_given_another(up: Up, tmp_path: Path) -> None:
    (tmp_path / "volume").touch()
    done = up(PROFILE="activity")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "up: POSTGRES_PASSWORD: not set, but the database was made with one; put it into .env"
    )
    assert not (tmp_path / "told").exists()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"PROFILE": "activity", "POSTGRES_PASSWORD": "a@b"}, "POSTGRES_PASSWORD: it becomes part of a URL"),
        ({"PROFILE": "nosuch"}, 'PROFILE: there is no "nosuch"; there is: activity airflow cluster'),
        ({"PROFILE": "airflow", "AIRFLOW_EXECUTOR": "Celery"}, "AIRFLOW_EXECUTOR: Celery is none of LocalExecutor, Ce"),
        ({"PROFILE": "airflow", "AIRFLOW_SECRET": "short"}, "AIRFLOW_SECRET: 32 characters or more are needed"),
        ({"PROFILE": "activity", "KAFKA_TOPIC": "x"}, "KAFKA_TOPIC: x cannot be the topic of 2 feeds; unset it"),
    ],
)
def test_what_cannot_be_is_one_line(up: Up, tmp_path: Path, settings: dict[str, str], problem: str) -> None:
    done = up(**settings)
    assert done.returncode == 2
    assert done.stderr.startswith(f"up: {problem}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "told").exists()


def test_a_tilde_in_output_path_is_the_home_folder(up: Up, tmp_path: Path) -> None:
    up(OUTPUT_PATH="~/out put", HOME=str(tmp_path / "home"))
    assert (tmp_path / "home" / "out put").is_dir()
    assert not (tmp_path / "~").exists()
