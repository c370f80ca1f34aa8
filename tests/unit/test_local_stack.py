"""Where Kafka and the database are, for the servers that listen there and for those who look for them."""

import json
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from confluent_kafka import KafkaError

from local import __main__ as command_line
from local import agent, broker, lock, ports, postgres
from local.places import JARS, ROOT, Places
from local.process import Child, WhenDone, lock_path
from local.stack import Stack, load_stack
from stream_app.errors import ConfigError, StreamAppError
from stream_app.settings import Settings
from tests.fakes import FakeAdmin

TEMPLATE = (ROOT / "conf" / "kafka.properties").read_text()


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those of the test; jars and Java are taken for granted."""
    for name in (
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_TOPIC",
        "DATABASE_URL",
        "FEEDS",
        "FEEDS_PATH",
        "TRIGGER_INTERVAL",
        "BROKER_METRICS_PORT",
    ):
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


@pytest.fixture
def fetched_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The agent's jar, as set-up fetches it; its path as a broker is told."""
    monkeypatch.setattr(agent, "JARS", tmp_path / JARS.name)
    jar = tmp_path / JARS.name / "monitor" / "jmx_prometheus_javaagent-1.0.1.jar"
    jar.parent.mkdir()
    jar.touch()
    return os.path.relpath(jar, ROOT)


def test_a_broker_serves_metrics_where_it_is_told_to(
    places: Places, fetched_agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = ports.any_free()
    made = stack(places, monkeypatch, BROKER_METRICS_PORT=str(port)).broker_if_needed()
    assert made is not None
    assert f"-javaagent:{fetched_agent}=127.0.0.1:{port}:deploy/kafka/jmx.yml" in made.argv
    without = stack(places, monkeypatch, BROKER_METRICS_PORT="0").broker_if_needed()
    assert without is not None
    assert not [option for option in without.argv if "javaagent" in option]


@pytest.mark.usefixtures("fetched_agent")
def test_a_taken_port_of_its_metrics_is_named(places: Places, taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stack(places, monkeypatch, BROKER_METRICS_PORT=str(taken))
    with pytest.raises(ConfigError, match=rf"BROKER_METRICS_PORT: port {taken} is taken .* BROKER_METRICS_PORT=\d+"):
        made.broker_if_needed()


def test_an_agent_that_was_not_fetched_is_one_line(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "JARS", places.data)
    made = stack(places, monkeypatch, BROKER_METRICS_PORT=str(ports.any_free()))
    with pytest.raises(ConfigError, match=r"there is no agent in .*monitor; fetch it with: make setup"):
        made.broker_if_needed()


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


@pytest.fixture
def two_feeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Declarations of transactions and of something called user_activity, each on a topic of its own."""
    declared = (ROOT / "conf" / "feeds" / "transactions.toml").read_text()
    (tmp_path / "transactions.toml").write_text(declared)
    (tmp_path / "user_activity.toml").write_text(declared.replace('"transactions"', '"activity"', 1))
    monkeypatch.setenv("FEEDS_PATH", str(tmp_path))


@pytest.mark.usefixtures("two_feeds")
def test_each_feed_has_a_producer_and_a_topic_of_its_own(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stack(places, monkeypatch, FEEDS="transactions,user_activity")
    producers = made.producers("k:1")
    assert [producer.name for producer in producers] == ["produce-transactions", "produce-user_activity"]
    assert [producer.argv[-2:] for producer in producers] == [["--feed", feed.name] for feed in made.feeds]
    assert [producer.environment["KAFKA_TOPIC"] for producer in producers] == ["transactions", "activity"]


@pytest.mark.usefixtures("two_feeds")
def test_one_topic_cannot_be_that_of_two_feeds(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stack(places, monkeypatch, FEEDS="transactions,user_activity", KAFKA_TOPIC="other")
    with pytest.raises(ConfigError, match=r"^KAFKA_TOPIC: other cannot be the topic of 2 feeds; unset it"):
        made.producers("k:1")


@pytest.mark.usefixtures("two_feeds")
@pytest.mark.parametrize(
    ("feeds", "feed", "name"),
    [
        ("transactions", "transactions", "produce"),
        ("user_activity", "user_activity", "produce"),
        ("transactions", "user_activity", "produce-user_activity"),
        ("transactions,user_activity", "user_activity", "produce-user_activity"),
    ],
)
def test_a_producer_of_one_feed_has_the_name_that_it_has_beside_the_others(
    places: Places, monkeypatch: pytest.MonkeyPatch, feeds: str, feed: str, name: str
) -> None:
    monkeypatch.setenv("FEEDS", feeds)
    (producer,) = load_stack(places, feed).producers("k:1")
    assert producer.name == name
    assert producer.argv[-2:] == ["--feed", feed]


def test_a_feed_that_nobody_declared_is_one_line(places: Places) -> None:
    with pytest.raises(ConfigError, match=r"nope\.toml: there is no such feed; there are: [^\n]*transactions[^\n]*$"):
        load_stack(places, "nope")


@pytest.mark.usefixtures("two_feeds")
def test_topics_are_made_in_a_broker_of_ours_that_was_started_for_other_feeds(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(broker, "make_topics", lambda _places, address, topics: asked.append((address, topics)))
    monkeypatch.setattr(broker, "answers", lambda _address: True)
    held = hold(places, "localhost:9777")
    stack(places, monkeypatch, FEEDS="user_activity").make_topics(Event())
    stack(places, monkeypatch, KAFKA_BOOTSTRAP_SERVERS="kafka.example:9092").make_topics(Event())  # not ours
    os.close(held)
    assert asked == [("localhost:9777", ["activity"])]


@pytest.mark.usefixtures("two_feeds")
def test_a_broker_that_is_not_up_yet_is_waited_for_and_gets_the_topics(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = ports.any_free()
    asked: list[str] = []
    held: list[int] = []

    class Clock(Event):
        def wait(self, timeout: float | None = None) -> bool:
            """Nobody is there; then one of ours starts; then it answers."""
            if held:
                monkeypatch.setattr(broker, "answers", lambda _address: True)
            else:
                held.append(hold(places, f"localhost:{port}"))
            return super().wait(timeout)

    monkeypatch.setattr("local.stack._LOOK_SECONDS", 0)
    monkeypatch.setattr(broker, "make_topics", lambda _places, address, topics: asked.extend([address, *topics]))
    monkeypatch.setattr(broker, "answers", lambda _address: False)
    made = stack(places, monkeypatch, FEEDS="user_activity", KAFKA_BOOTSTRAP_SERVERS=f"localhost:{port}")
    stopping = Event()
    stopping.set()
    made.make_topics(stopping)  # a signal ends the wait
    made.make_topics(Clock())
    os.close(held[0])
    assert asked == [f"localhost:{port}", "activity"]
    line = f"produce: waits for the broker at localhost:{port}; to start one: make broker\n"
    assert capsys.readouterr().out == line * 2


@pytest.fixture
def fake_postgres(monkeypatch: pytest.MonkeyPatch) -> str:
    """Servers that are never started, at the URL that is returned."""
    url = "postgresql://local"

    class FakePostgres(Child):
        def __init__(self, places: Places) -> None:
            super().__init__("postgres", [], places, 1)
            self.url = url

    monkeypatch.setattr("local.stack.Postgres", FakePostgres)
    return url


def hold_postgres(places: Places, url: str) -> int:
    """Be the PostgreSQL that runs in this folder."""
    held = lock.acquire(lock_path(places, "postgres"))
    assert held is not None
    postgres.url_file(places).write_text(f"{url}\n")
    return held


def test_a_feed_with_tables_gets_a_postgres_and_the_service_its_url(
    places: Places, monkeypatch: pytest.MonkeyPatch, fake_postgres: str
) -> None:
    made = stack(places, monkeypatch, FEEDS="user_activity")
    assert made.postgres_if_needed() is not None
    database, app = made.app_alone()
    assert (database.name, app.name) == ("postgres", "app")
    assert app.environment["DATABASE_URL"] == fake_postgres
    assert app.when_done is WhenDone.ALL_IS_DONE


@pytest.mark.usefixtures("fake_postgres")
def test_a_feed_without_tables_gets_no_postgres(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stack(places, monkeypatch, FEEDS="transactions")
    assert made.postgres_if_needed() is None
    (app,) = made.app_alone()
    assert app.environment["DATABASE_URL"] == ""


@pytest.mark.usefixtures("fake_postgres")
def test_a_postgres_that_runs_here_is_used(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = stack(places, monkeypatch, FEEDS="user_activity")
    held = hold_postgres(places, "postgresql://running")
    (app,) = made.app_alone()
    assert app.environment["DATABASE_URL"] == "postgresql://running"
    assert capsys.readouterr().out == "postgres: none is started: one runs here already\n"
    os.close(held)
    assert made.database_url() == ""  # the file of one that was kill -9ed is no hindrance
    assert made.postgres_if_needed() is not None


@pytest.mark.usefixtures("fake_postgres")
def test_a_named_database_goes_before_one_that_runs_here(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "postgresql://app:zq@db.example/shop"
    made = stack(places, monkeypatch, FEEDS="user_activity", DATABASE_URL=url)
    held = hold_postgres(places, "postgresql://running")
    (app,) = made.app_alone()
    os.close(held)
    assert app.environment["DATABASE_URL"] == url
    assert capsys.readouterr().out == "postgres: none is started: DATABASE_URL names one\n"
    with pytest.raises(ConfigError, match=r"^DATABASE_URL: names the database already; unset it to run one here$"):
        made.postgres()


def test_only_missing_topics_are_made_and_another_may_have_been_quicker(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = {"raced": KafkaError.TOPIC_ALREADY_EXISTS, "wrong": KafkaError.POLICY_VIOLATION}
    admin = FakeAdmin("old", refused=refused)
    monkeypatch.setattr(broker, "AdminClient", admin)
    broker.make_topics(places, "k:1", ["old"])
    broker.make_topics(places, "k:1", ["new", "old", "raced"])
    assert capsys.readouterr().out == "broker: topics made at k:1: new, raced (3 partitions)\n"
    assert admin.config["bootstrap.servers"] == "k:1"
    with pytest.raises(StreamAppError, match=r"^topic wrong cannot be made: [^\n]*; see .*broker\.log$"):
        broker.make_topics(places, "k:1", ["new", "wrong"])


def test_wrong_settings_are_one_line(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^MSGS_PER_SEC: [^\n]*$"):
        stack(places, monkeypatch, MSGS_PER_SEC="x")


@pytest.mark.parametrize("command", ["run", "app", "produce"])
def test_an_env_with_a_password_is_made_its_owner_s_alone(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> Stack:
        raise ConfigError("enough")

    (tmp_path / "local").mkdir()
    shutil.copy(ROOT / "local" / "private_env.sh", tmp_path / "local")
    (tmp_path / ".env").write_text("KAFKA_SASL_PASSWORD=x")
    (tmp_path / ".env").chmod(0o644)
    monkeypatch.setattr(command_line, "ROOT", tmp_path)
    monkeypatch.setattr("local.stack.load_stack", refused)
    assert command_line.main([command]) == 2
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert f"{command}: .env holds a password" in capfd.readouterr().out


def test_the_one_feed_to_produce_is_an_option_and_not_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def noted(_: Places, feed: str) -> Stack:
        asked.append(feed)
        raise ConfigError("enough")

    monkeypatch.setattr("local.stack.load_stack", noted)
    monkeypatch.setenv("FEED", "b")
    for arguments in (["produce", "--feed=a"], ["produce"], ["run"]):
        assert command_line.main(arguments) == 2
    assert asked == ["a", "", ""]
    assert capfd.readouterr().err.count("enough") == 3


def test_run_serves_the_page_and_says_where(
    places: Places, taken: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: port != taken)
    api = stack(places, monkeypatch, API_PORT=str(taken)).api_if_wanted("postgresql://running")
    assert api is not None
    assert api.argv[1:] == ["-m", "stream_app", "api"]
    assert api.environment == {"DATABASE_URL": "postgresql://running", "API_PORT": str(taken + 1)}
    printed = capsys.readouterr().out
    assert f"port {taken} is taken by another program, so the page takes {taken + 1}" in printed
    assert f"http://127.0.0.1:{taken + 1}/" in printed


def test_run_serves_no_page_where_none_is_wanted(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stack(places, monkeypatch, API_PORT="0").api_if_wanted("") is None


def test_a_page_that_would_let_others_in_is_refused_before_anything_starts(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="API_HOST: "):
        stack(places, monkeypatch, API_HOST="0.0.0.0")  # noqa: S104
