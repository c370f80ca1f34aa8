"""Airflow without Docker: an environment of its own, its database in SQLite, and three processes with the UI."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event

from dotenv import dotenv_values

from local import ports
from local.console import say
from local.places import ROOT, VENV, Places, shown
from local.process import Child
from local.setup import Stamp, run
from local.supervise import keep
from stream_app.errors import ConfigError, StreamAppError
from stream_app.settings import Settings

_PORT = 8082
AIRFLOW = ROOT / ".venv-airflow"
_REQUIREMENTS = ROOT / "requirements-airflow.lock"
_METRICS_PORT = 9108
"""Where a DAG looks for a service whose METRICS_PORT it is not told."""
_STOP_SECONDS = 60.0
_START_SECONDS = 600.0
_PARTS = {"metadatabase": "the UI with its API", "scheduler": "the scheduler", "dag_processor": "what reads the DAGs"}
"""What the API says the health of: it answers, so it is up itself where the database is."""


class _Ready(Child):
    """The last of the processes: it is up when the API says that all are."""

    def __init__(self, places: Places, argv: Sequence[str], environment: Mapping[str, str], url: str) -> None:
        super().__init__("airflow-dag-processor", argv, places, _STOP_SECONDS, environment)
        self._url = url
        self._passwords = Path(environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])

    def start(self, stopping: Event) -> None:
        """Start it; return when all are healthy."""
        super().start(stopping)
        deadline, told = time.monotonic() + _START_SECONDS, set[str]()
        while not stopping.wait(0.5) and self.returncode is None:
            healthy = _healthy(self._url)
            for part in sorted(healthy - told):
                say("airflow", f"{_PARTS[part]} is up")
            told |= healthy
            if healthy == _PARTS.keys():
                password = f"the password of admin is in {shown(self._passwords)}"
                say("airflow", f"ready at {self._url}; {password}; Ctrl-C ends it")
                return
            if time.monotonic() > deadline:
                problem = f"{self._url} is not healthy within {_START_SECONDS:.0f} s; see {self.log_name}"
                raise StreamAppError(problem)


def run_airflow(settings: Settings, places: Places, broker: str) -> int:
    """Run Airflow until a signal; return the exit code.

    Raises ConfigError where its port is taken, or its environment cannot be made.
    """
    port = _port()
    if not ports.is_free(port):
        problem = f"port {port} is taken by another program; stop that, or choose another port: AIRFLOW_PORT"
        raise ConfigError(problem)
    make_environment(places)
    home, url = places.data / "airflow", f"http://127.0.0.1:{port}"
    home.mkdir(parents=True, exist_ok=True)
    service = f"http://127.0.0.1:{settings.metrics_port or _METRICS_PORT}"
    environment = environment_of(home, broker, port) | {
        "LANDING_PATH": str(settings.landing_path),
        "GOLD_PATH": str(settings.gold_path),
        "SERVICE_URL": os.environ.get("SERVICE_URL", service),
    }
    _make_password(home / "passwords.json")
    log = places.log("airflow")
    say("airflow", f"starts, in half a minute; its logs are {shown(log.with_name('airflow*.log'))}")
    program = str(AIRFLOW / "bin" / "airflow")
    say("airflow", "brings its database up to date; the first time it makes it")
    run([program, "db", "migrate"], log, "Airflow's database cannot be made", environment)
    server = Child("airflow-api-server", [program, "api-server"], places, _STOP_SECONDS, environment)
    scheduler = [program, "scheduler", "--skip-serve-logs"]
    return keep(
        [
            server,
            Child("airflow-scheduler", scheduler, places, _STOP_SECONDS, environment),
            _Ready(places, [program, "dag-processor"], environment, url),
        ]
    )


def make_environment(places: Places) -> None:
    """Make .venv-airflow where it is missing or its pins changed."""
    stamp = Stamp(AIRFLOW / ".installed", _REQUIREMENTS)
    if stamp.is_current():
        return
    log = places.log("airflow")
    log.parent.mkdir(parents=True, exist_ok=True)
    say("airflow", f"installing {shown(_REQUIREMENTS)} into {shown(AIRFLOW)}, the first time a minute or two")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(AIRFLOW)],
        [
            *(str(AIRFLOW / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"),
            *("--require-hashes", "-r", str(_REQUIREMENTS)),
        ],
    ):
        run(command, log, "the environment of Airflow cannot be made")
    stamp.set()


def environment_of(home: Path, broker: str, port: int = _PORT) -> dict[str, str]:
    """Return the settings of Airflow, and of the commands that its tasks call."""
    url = f"http://127.0.0.1:{port}"
    own = {
        "CORE__DAGS_FOLDER": ROOT / "dags",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": 2,
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": home / "passwords.json",
        "API__HOST": "127.0.0.1",
        "API__PORT": port,
        "API__WORKERS": 1,
        "API__BASE_URL": url,
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 1,
        "DAG_PROCESSOR__REFRESH_INTERVAL": 30,
    }
    return {
        "AIRFLOW_HOME": str(home),
        "APP_HOME": str(ROOT),
        "APP_PYTHON": str(VENV / "bin" / "python"),
        "KAFKA_BOOTSTRAP_SERVERS": broker,
        **{f"AIRFLOW__{name}": str(value) for name, value in own.items()},
    }


def _port() -> int:
    """Read AIRFLOW_PORT of the environment, or of .env. Raises ConfigError."""
    text = os.environ.get("AIRFLOW_PORT") or dotenv_values(ROOT / ".env").get("AIRFLOW_PORT") or str(_PORT)
    if not (text.isdecimal() and 0 < int(text) < 65_536):
        problem = f'AIRFLOW_PORT: "{text}" is no port'
        raise ConfigError(problem)
    return int(text)


def _make_password(path: Path) -> None:
    """Make a password for `admin`, once: it is in a file for its owner alone, and shown when it is made."""
    if path.exists():
        return
    password = secrets.token_urlsafe(12)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"admin": password}, file)
    say("airflow", f"log in as admin with {password}; it is kept in {shown(path)}")


def _healthy(url: str) -> set[str]:
    """Return the parts that are healthy, as the API says; none while that does not answer."""
    with suppress(OSError, ValueError):
        with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=2) as answer:  # noqa: S310 - our own
            parts = json.load(answer)
        return {part for part in _PARTS if parts[part]["status"] == "healthy"}
    return set()
