"""A bounded run takes what a real topic holds into files, goes on where the last one ended, and refuses in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from stream_app.errors import ConfigError, StreamAppError
from stream_app.kafka.broker import Broker
from stream_app.kafka.client import group
from stream_app.landing.land import Landed, Request, land
from stream_app.landing.zone import Zone
from stream_app.settings import Settings, load_settings
from tests.landed import landed
from tests.service.harness import wait_for
from tests.service.servers import KafkaBroker

TIME_MS = 1_795_224_030_125


@pytest.fixture
def settings(broker: KafkaBroker, tmp_path: Path) -> Settings:
    return load_settings(_env_file=None, kafka_bootstrap_servers=broker.address, landing_path=tmp_path / "landing")


def run(settings: Settings, topic: str, seconds: float = 60, **given: object) -> Landed:
    return land(settings, Request(topic, seconds, **given))  # type: ignore[arg-type]


def records(count: int, first: int = 0) -> list[tuple[str, bytes | None, int]]:
    return [(f"k{i % 7}", f'{{"n": {i}}}'.encode(), TIME_MS + i) for i in range(first, first + count)]


def test_each_run_goes_on_where_the_last_one_ended(broker: KafkaBroker, settings: Settings) -> None:
    topic = "._Land-1." + "x" * 240  # the longest name that Kafka takes
    broker.create_topic(topic)
    broker.send(topic, [*records(500), ("b", b"\xff\x00", TIME_MS), ("t", None, TIME_MS), ("e", b"", -5 + 2**40)])
    first = run(settings, topic)
    assert (first.records, first.behind, first.skipped) == (503, 0, 0)
    assert first.files == len(first.offsets) == 3
    assert {
        place: value or b"" for place, value in landed(Zone(settings.landing_path, topic)).items()
    } == broker.records(topic)
    assert run(settings, topic).files == 0, "nothing is new"
    broker.send(topic, records(100, 500))
    assert run(settings, topic).records == 100
    assert {
        place: value or b"" for place, value in landed(Zone(settings.landing_path, topic)).items()
    } == broker.records(topic)


def test_it_ends_at_its_limits_and_no_partition_waits_for_the_others(broker: KafkaBroker, settings: Settings) -> None:
    broker.create_topic("limits")
    broker.send("limits", records(300))
    first = run(settings, "limits", max_records=110)
    assert (first.records, first.behind) == (110, 190)
    assert run(settings, "limits", seconds=1e-9).records == 0
    rest = run(settings, "limits")
    assert (rest.records, rest.behind) == (190, 0)
    assert {
        place: value or b"" for place, value in landed(Zone(settings.landing_path, "limits")).items()
    } == broker.records("limits")


def test_aborted_transactions_leave_gaps_and_open_ones_are_left_for_later(
    broker: KafkaBroker, settings: Settings
) -> None:
    broker.create_topic("gaps", 1)
    producer = Producer({"bootstrap.servers": broker.address, "transactional.id": "gaps"})
    producer.init_transactions(120)
    for number, end in enumerate(
        (producer.commit_transaction, producer.abort_transaction, producer.commit_transaction)
    ):
        producer.begin_transaction()
        producer.produce("gaps", f"{number}".encode(), timestamp=TIME_MS)
        assert producer.flush(120) == 0
        if number == 2:
            assert run(settings, "gaps").records == 1, "what is open is not decided"
        end(120)
    assert run(settings, "gaps").records == 1
    assert sorted(filter(None, landed(Zone(settings.landing_path, "gaps")).values())) == [b"0", b"2"]
    assert run(settings, "gaps").files == 0, "a marker behind the last record is nothing new"


def test_a_run_that_died_before_its_commit_is_continued_by_the_names_of_its_files(
    broker: KafkaBroker, settings: Settings
) -> None:
    broker.create_topic("uncommitted", 1)
    broker.send("uncommitted", records(100))
    run(settings, "uncommitted")
    admin = broker.admin
    admin.delete_consumer_groups([group("land-uncommitted")])[group("land-uncommitted")].result()
    broker.send("uncommitted", records(50, 100))
    assert run(settings, "uncommitted").records == 50
    assert len(landed(Zone(settings.landing_path, "uncommitted"))) == 150
    for file in Zone(settings.landing_path, "uncommitted").files():
        file.path.unlink()
    assert run(settings, "uncommitted").records == 0, "where the files were moved away, the group's offsets count"


def test_another_member_of_the_group_is_named(broker: KafkaBroker, settings: Settings) -> None:
    broker.create_topic("shared", 1)
    broker.send("shared", records(10))
    config = {"bootstrap.servers": broker.address, "group.id": group("land-shared"), "client.id": "other-program"}
    other = Consumer(config)
    try:
        other.subscribe(["shared"])
        wait_for(lambda: other.poll(0.1) or other.assignment(), "the other program to join")
        with pytest.raises(ConfigError, match=r"group stream-app-land-shared is in use by other-program at .*--group"):
            run(settings, "shared")
    finally:
        other.close()
    assert run(settings, "shared", group="mine").records == 10


@pytest.fixture
def made_again(broker: KafkaBroker, settings: Settings) -> Iterator[str]:
    broker.create_topic("again", 1)
    broker.send("again", records(10))
    run(settings, "again")
    admin = broker.admin
    admin.delete_topics(["again"])["again"].result()
    wait_for(lambda: "again" not in broker.admin.list_topics(timeout=10).topics, "the topic to go")
    broker.create_topic("again", 1)
    yield "again"


def test_a_topic_that_was_made_again_is_refused(broker: KafkaBroker, settings: Settings, made_again: str) -> None:
    broker.send(made_again, records(20))
    with pytest.raises(ConfigError, match="was deleted since, and made again; move that folder away"):
        run(settings, made_again)


def test_records_that_expired_before_they_were_landed_are_named(broker: KafkaBroker, settings: Settings) -> None:
    broker.create_topic("expired", 1)
    broker.send("expired", records(10))
    Broker(settings.kafka).set_group_offsets(group("land-expired"), "expired", {0: 3})
    _delete_before(broker, "expired", 7)
    with pytest.raises(StreamAppError, match=r"partition 0, offsets 3 to 6: expired .* by FAIL_ON_DATA_LOSS=false"):
        run(settings, "expired")
    going_on = settings.model_copy(update={"fail_on_data_loss": False})
    done = run(going_on, "expired")
    assert (done.records, done.skipped) == (3, 4)


def _delete_before(broker: KafkaBroker, topic: str, offset: int) -> None:
    admin = broker.admin
    for deleted in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        deleted.result()


def test_a_topic_or_a_broker_that_is_not_there(settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"there is no topic nowhere .* create it, or correct --topic$"):
        run(settings, "nowhere")
    away = settings.model_copy(update={"kafka_bootstrap_servers": "localhost:1"})
    with pytest.raises(StreamAppError, match="KAFKA_BOOTSTRAP_SERVERS: no answer from localhost:1"):
        run(away, "nowhere")
    assert not settings.landing_path.exists(), "no folder is made for nothing"
