"""Wherever the project and its outputs are, whatever the locale and the time zone: the same outputs, row for row."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream_app.settings import PROJECT
from tests.ports import free_port
from tests.service.harness import Service, produce, transaction, wait_for
from tests.service.servers import DatabaseServer, KafkaBroker

SIGNS = "a b [c] {d,e} st*r ? 50% %20 #1 ü's & ~"
BEYOND = """
[sinks.lake]
of = "silver"
to = "lake"

[sessions.visits]
keys = ["card_id"]
ends = { status = "declined" }
gap = "5 minutes"
watermark = "2 minutes"
"""
QUERY = "SELECT * FROM silver ORDER BY ALL LIMIT 20"


@pytest.fixture(scope="module")
def turkish(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A locale in which I is the capital of another i; where it cannot be made, programs take C for it."""
    folder = tmp_path_factory.mktemp("locales")
    if localedef := shutil.which("localedef"):
        command = [localedef, "-i", "tr_TR", "-f", "UTF-8", str(folder / "tr_TR.UTF-8")]
        subprocess.run(command, check=False, capture_output=True)
    return {"LC_ALL": "tr_TR.UTF-8", "LOCPATH": str(folder)}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The project in a folder with every sign that a checkout may have."""
    folder = tmp_path / "home" / SIGNS
    for name in ("stream_app", "producer", "local", "conf"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / ".jars").symlink_to((PROJECT / ".jars").resolve())
    return folder


@pytest.mark.proves("It runs in any place", "bronze", "quarantine", "silver", "windows", "sessions", "csv", "lake")
def test_outputs_and_commands_are_the_same_everywhere(
    broker: KafkaBroker, new_service: Callable[..., Service], checkout: Path, turkish: dict[str, str], tmp_path: Path
) -> None:
    plain = new_service(broker, LC_ALL="C.UTF-8", TZ="UTC", MAX_OFFSETS_PER_TRIGGER="1000")
    declared = plain.feeds_path / "transactions.toml"
    declared.write_text(declared.read_text() + BEYOND)
    now = time.time() - 7200
    broken = {"amount": -1, "merchant": "[/red]"}
    kinds = [broken if not i % 50 else {"status": "declined" if not i % 7 else "approved"} for i in range(3000)]
    broker.send(plain.feed.topic, [transaction(i, now + i * 0.6, **kind) for i, kind in enumerate(kinds)])
    produce(plain, COUNT="100", SEED="7", MSGS_PER_SEC="0", **turkish)
    expected = _drained(plain)
    assert {sink: len(rows) > 0 for sink, rows in expected.items()} == dict.fromkeys(expected, True)
    for place in _places(plain, checkout, turkish, tmp_path):
        assert _drained(place) == expected, place.environment
        _check_commands(place, plain)


def _places(plain: Service, checkout: Path, turkish: dict[str, str], folder: Path) -> Iterator[Service]:
    """The service with an OUTPUT_PATH that is strange, behind a link and `..`; and in a checkout that is."""
    (folder / "far" / "away").mkdir(parents=True)
    (folder / "link").symlink_to(folder / "far" / "away")
    feeds = folder / "feeds" / SIGNS
    shutil.copytree(plain.feeds_path, feeds)
    root = folder / "far" / SIGNS / "env=prod"
    root.parent.mkdir()
    in_new_york = {"LC_ALL": "C", "TZ": "America/New_York", "OUTPUT_PATH": f"{folder}/link/../{SIGNS}/env=prod/"}
    yield Service(root, feeds, plain.servers, plain.environment | in_new_york)
    in_istanbul = {**turkish, "TZ": "Europe/Istanbul", "OUTPUT_PATH": "", "LOG_FORMAT": "json"}
    root = checkout / "data" / "output"
    root.mkdir(parents=True)
    yield Service(root, feeds, plain.servers, plain.environment | in_istanbul, project=checkout)


def _drained(service: Service) -> dict[str, list[tuple[object, ...]]]:
    try:
        log = service.drain()
    finally:
        service.kill()
    for trouble in ("Traceback", "log4j", "does not exist"):  # a file that Java did not find
        assert trouble not in log
    return {sink: service.contents(f'"{sink}"') for sink in service.flows}


def _check_commands(place: Service, plain: Service) -> None:
    assert place.op("query", SQL=QUERY) == plain.op("query", SQL=QUERY)
    assert "nothing lost, nothing twice" in place.op("audit")
    assert place.op("replay", DRY_RUN="1") == plain.op("replay", DRY_RUN="1")
    for service in (place, plain):
        assert [line for line in service.op("show").splitlines() if " rows in " in line]
        assert "transactions.silver" in service.op("status")
    rows = [[row["rows"] for row in json.loads(one.op("status", FORMAT="json"))] for one in (place, plain)]
    assert rows[0] == rows[1]
    assert "read again with the next start" in place.op("reset", YES="1")
    assert not any(flow.files() for flow in place.flows.values())


def test_the_local_broker_runs_everywhere(checkout: Path, tmp_path: Path) -> None:
    """Kafka reads its settings as Latin-1, and Java its paths by the locale."""
    environment = os.environ | {"LC_ALL": "C", "KAFKA_BOOTSTRAP_SERVERS": f"localhost:{free_port()}"}
    command = [str(checkout / ".venv" / "bin" / "python"), "-m", "local", "broker"]
    log = tmp_path / "broker.log"
    with log.open("wb") as output:
        broker = subprocess.Popen(command, cwd=checkout, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: "ready at" in log.read_text() or broker.poll() is not None, "the broker")
        assert (checkout / "data" / "kafka" / "meta.properties").is_file()
    finally:
        broker.send_signal(signal.SIGTERM)
        assert broker.wait(300) == 0, log.read_text()


def test_the_local_database_runs_everywhere(turkish: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in turkish.items():
        monkeypatch.setenv(name, value)
    outer = Path(tempfile.mkdtemp(prefix="database-"))
    outer.chmod(0o755)
    server = DatabaseServer(outer / SIGNS)
    try:
        server.start()
        assert server.create().query("SELECT lower('I'), getdatabaseencoding()") == [("i", "UTF8")]
    finally:
        server.stop()
        shutil.rmtree(outer)
