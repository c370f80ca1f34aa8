"""Preflight names each thing that is missing, all at once, and tells what a retry may mend from what it may not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream_app.errors import ConfigError, UnavailableError
from stream_app.kafka.topic import Topic
from stream_app.runtime import preflight
from tests.unit.conftest import Cli


class Asked:
    """A broker of two that has the topic `there`. Stands in for kafka.Broker."""

    def __init__(self, *_: object, named_by: str) -> None:
        assert named_by == "--topics"

    def nodes(self) -> int:
        return 2

    def topic(self, name: str) -> Topic:
        if name != "there":
            raise ConfigError(f"there is no topic {name}")
        return Topic(name, "id", (0, 1, 2))


class Away(Asked):
    def nodes(self) -> int:
        raise UnavailableError("KAFKA_BOOTSTRAP_SERVERS: no answer")


@pytest.mark.parametrize(
    ("broker", "arguments", "code", "missing"),
    [
        (Asked, ["--topics=there", "--brokers=2"], 0, set()),
        (Asked, ["--topics=there", "--brokers=3"], 1, {"brokers"}),
        (Asked, ["--topics=there,gone"], 2, {"topic gone"}),
        (Asked, ["--free-mb=1000000000"], 1, {"LANDING_PATH", "GOLD_PATH"}),
        (Away, ["--topics=there"], 1, {"brokers"}),
        (Away, ["--topics=there", "--free-mb=1000000000"], 1, {"brokers", "LANDING_PATH", "GOLD_PATH"}),
    ],
)
def test_it_names_what_is_missing(
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broker: type[Asked],
    arguments: list[str],
    code: int,
    missing: set[str],
) -> None:
    monkeypatch.setattr(preflight, "Broker", broker)
    done = cli(tmp_path, "preflight", "--format=json", *arguments)
    assert done.code == code, done.err
    assert {one["name"] for one in json.loads(done.out) if not one["is_there"]} == missing
    assert {name for name in ("brokers", "topic gone", "LANDING_PATH", "GOLD_PATH") if name in done.err} == missing
    assert done.err.count("\n") == bool(missing), "a scheduler quotes the last line"
    assert not [*tmp_path.iterdir()], "it changes nothing"
    shown = cli(tmp_path, "preflight", *arguments)
    assert (shown.code, shown.out.count(" NO ")) == (code, len(missing))


def test_a_machine_without_java_is_told_at_once(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "Broker", Asked)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    done = cli(tmp_path, "preflight", "--format=json")
    (spark,) = (one for one in json.loads(done.out) if one["name"] == "Spark")
    assert done.code == 2
    assert spark["sentence"].startswith("there is no java; install Java 17 or later")
