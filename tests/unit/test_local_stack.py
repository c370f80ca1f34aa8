"""Where Kafka is, for the broker that listens there and for those who look for it."""

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from local import broker, lock, ports
from local.places import JARS, ROOT, Places
from local.process import lock_path
from local.stack import Stack, load_stack
from stream_app.errors import ConfigError
from stream_app.settings import Settings

TEMPLATE = (ROOT / "conf" / "kafka.properties").read_text()


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those of the test; jars and Java are taken for granted."""
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_TOPIC", "FEEDS", "TRIGGER_INTERVAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)  # no .env
    monkeypatch.setattr(broker, "JARS", tmp_path / JARS.name)
    (tmp_path / JARS.name / "kafka").mkdir(parents=True)
    (tmp_path / JARS.name / "kafka" / "kafka_2.13-4.3.1.jar").touch()
    monkeypatch.setattr("local.java.find", lambda: "java")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.socket() as server:
        server.bind((ports.HOST, 0))
        server.listen()
        yield int(server.getsockname()[1])


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "data")


def stack(places: Places, monkeypatch: pytest.MonkeyPatch, **settings: str) -> Stack:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return load_stack(places)


def hold(places: Places, address: str) -> int:
    """Be the broker that runs in this folder."""
    held = lock.acquire(lock_path(places, "broker"))
    assert held is not None
    places.pid("broker").write_text("4242\n")
    (places.run / "broker.json").write_text(json.dumps({"bootstrap_servers": address}))
    return held


def test_a_taken_port_is_seen_and_the_next_free_one_found(taken: int) -> None:
    assert not ports.is_free(taken)
    free = ports.next_free(taken)
    assert free != taken
    assert ports.is_free(free)


def test_a_port_whose_connections_linger_is_free() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does
        server.bind((ports.HOST, 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection((ports.HOST, port)), server.accept()[0] as accepted:
            accepted.shutdown(socket.SHUT_RDWR)  # this end closes first, so it is the one that waits
    assert ports.is_free(port)


def test_the_template_becomes_a_broker_of_one_node() -> None:
    text = broker.properties(TEMPLATE, 9094, 9999, ROOT / "data" / "kafka")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    values = dict(line.split("=", 1) for line in lines)
    assert len(values) == len(lines)
    assert values["listeners"] == "PLAINTEXT://127.0.0.1:9094,CONTROLLER://127.0.0.1:9999"
    assert values["advertised.listeners"] == "PLAINTEXT://localhost:9094"
    assert values["controller.quorum.voters"] == "1@127.0.0.1:9999"
    assert values["log.dirs"] == "data/kafka"
    assert values["auto.create.topics.enable"] == "false"
    assert {value for name, value in values.items() if name.endswith("replication.factor")} == {"1"}


def test_a_template_with_another_placeholder_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"conf/kafka.properties: only .*'heap'"):
        broker.properties("a=${heap}", 1, 2, ROOT)


def test_run_takes_another_port_than_a_taken_one_and_says_so(
    places: Places, taken: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unset = Settings.model_construct(_fields_set=set(), kafka_bootstrap_servers=f"localhost:{taken}")
    made = replace(stack(places, monkeypatch), settings=unset).broker_if_needed()
    assert made is not None
    assert ports.is_free(int(made.address.split(":")[1]))
    assert f"port {taken} is taken by another program, so Kafka takes" in capsys.readouterr().out


def test_a_taken_port_is_named(places: Places, taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stack(places, monkeypatch, KAFKA_BOOTSTRAP_SERVERS=f"localhost:{taken}")
    with pytest.raises(
        ConfigError, match=rf"port {taken} is taken .* KAFKA_BOOTSTRAP_SERVERS=localhost:\d+ make broker"
    ):
        made.broker()


def test_a_broker_elsewhere_cannot_be_started_here(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stack(places, monkeypatch, KAFKA_BOOTSTRAP_SERVERS="kafka.example:9092")
    with pytest.raises(ConfigError, match=r"KAFKA_BOOTSTRAP_SERVERS: kafka\.example:9092 is not this machine"):
        made.broker()


@pytest.mark.parametrize("where", ["kafka.example:9092", "a:1,b:2", "localhost:{taken}"])
def test_run_starts_no_broker_where_one_is_named(
    places: Places, taken: int, where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = where.format(taken=taken)
    made = stack(places, monkeypatch, KAFKA_BOOTSTRAP_SERVERS=address)
    assert made.broker_if_needed() is None
    assert f"none is started: KAFKA_BOOTSTRAP_SERVERS names {address}" in capsys.readouterr().out
    assert made.address() == address


def test_an_address_of_this_machine_that_is_free_is_where_the_broker_goes(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = ports.any_free()
    made = stack(places, monkeypatch, KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{port}").broker_if_needed()
    assert made is not None
    assert made.address == f"localhost:{port}"


def test_a_second_broker_on_the_same_folder_is_refused(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stack(places, monkeypatch)
    held = hold(places, "localhost:9777")
    with pytest.raises(ConfigError, match=r"in use by the broker at localhost:9777, process 4242; stop it: kill 4242"):
        made.broker_if_needed()
    os.close(held)
    assert made.broker_if_needed() is not None  # the files of one that was kill -9ed are no hindrance


def test_app_and_producer_find_the_broker_that_runs_here(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stack(places, monkeypatch)
    assert made.address() == "localhost:9094"
    held = hold(places, "localhost:9777")
    assert made.address() == "localhost:9777"
    assert stack(places, monkeypatch, KAFKA_BOOTSTRAP_SERVERS="k:1").address() == "k:1"
    os.close(held)


def test_the_producer_sends_to_the_feeds_topic_unless_told_otherwise(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    (producer,) = stack(places, monkeypatch).producers("k:1")
    assert producer.name == "produce"
    assert producer.environment == {"KAFKA_BOOTSTRAP_SERVERS": "k:1", "KAFKA_TOPIC": "transactions"}
    (producer,) = stack(places, monkeypatch, KAFKA_TOPIC="other").producers("k:1")
    assert producer.environment["KAFKA_TOPIC"] == "other"


def test_wrong_settings_are_one_line(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^MSGS_PER_SEC: [^\n]*$"):
        stack(places, monkeypatch, MSGS_PER_SEC="x")
