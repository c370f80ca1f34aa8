"""`make airflow` before its processes start: its port, and the password of its page. Nothing is installed here."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest

from local import airflow
from local.places import Places
from stream_app.errors import ConfigError
from stream_app.settings import load_settings
from tests.ports import free_port


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, as it goes on: "environment", "migrate", "keep"."""
    done: list[str] = []
    monkeypatch.setattr(airflow, "ROOT", tmp_path)  # whose .env is looked into
    monkeypatch.delenv("AIRFLOW_PORT", raising=False)
    monkeypatch.setattr(airflow, "make_environment", lambda _: done.append("environment"))
    monkeypatch.setattr(airflow, "run", lambda *_: done.append("migrate"))

    def keep(_: object) -> int:
        done.append("keep")
        return 0

    monkeypatch.setattr(airflow, "keep", keep)
    return done


def start(folder: Path) -> int:
    return airflow.run_airflow(load_settings(_env_file=None), Places(folder / "data"), "localhost:9094")


def test_the_password_is_made_and_printed_once_for_its_owner_alone_and_kept(
    started: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW_PORT", str(free_port()))
    mask = os.umask(0)  # which takes no right away
    try:
        assert start(tmp_path) == 0
    finally:
        os.umask(mask)
    path = tmp_path / "data" / "airflow" / "passwords.json"
    made = path.read_text()
    password = json.loads(made)["admin"]
    assert len(password) >= 16
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert capsys.readouterr().out.count(password) == 1
    assert start(tmp_path) == 0
    assert path.read_text() == made
    assert password not in capsys.readouterr().out
    assert started == ["environment", "migrate", "keep"] * 2
    assert start(tmp_path / "other") == 0
    assert (tmp_path / "other" / "data" / "airflow" / "passwords.json").read_text() != made


def test_the_port_is_8082_or_the_one_that_is_given(
    started: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert started == []
    assert airflow._port() == 8082
    (tmp_path / ".env").write_text("AIRFLOW_PORT=8083\n")
    assert airflow._port() == 8083
    monkeypatch.setenv("AIRFLOW_PORT", "8084")
    assert airflow._port() == 8084
    environment = airflow.environment_of(tmp_path, "localhost:9094", 8084)
    assert environment["AIRFLOW__API__PORT"] == "8084"
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8084/execution/"


@pytest.mark.parametrize("text", ["0", "65536", "-1", "x", "80 82", "8082.0"])
def test_what_is_no_port_is_refused_before_anything_is_made(
    started: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("AIRFLOW_PORT", text)
    with pytest.raises(ConfigError, match=f'^AIRFLOW_PORT: "{text}" is no port$'):
        start(tmp_path)
    assert started == []
    assert not [*tmp_path.iterdir()]


def test_a_port_that_is_taken_is_refused_before_anything_is_made(
    started: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("AIRFLOW_PORT", str(port))
        with pytest.raises(ConfigError, match=f"^port {port} is taken by another program; .*: AIRFLOW_PORT$"):
            start(tmp_path)
    assert started == []
    assert not [*tmp_path.iterdir()]
