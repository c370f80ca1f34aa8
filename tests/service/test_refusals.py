"""Where to go on would skip or repeat records, the service refuses at start: exit 2 and one line with what to type."""

from __future__ import annotations

import json
import shutil
import time

import pytest
from confluent_kafka import TopicPartition

from local.ports import any_free
from stream_app.flows.flow import Layer
from tests.service.harness import Service, transaction, wait_for
from tests.service.servers import PARTITIONS, KafkaBroker


@pytest.fixture
def used(service: Service, broker: KafkaBroker) -> Service:
    """A service that has read a thousand records, and is stopped."""
    now = time.time()
    broker.send(service.feed.topic, [transaction(i, now - 900 + i * 0.5) for i in range(1000)])
    service.drain()
    return service


def _refusal(service: Service) -> str:
    """Start; the one line that the service ends with."""
    service.log.unlink(missing_ok=True)
    lines = service.drain(expected=2).strip().splitlines()
    assert "Traceback" not in "\n".join(lines)
    return lines[-1]


def test_output_and_checkpoint_that_do_not_belong_together(used: Service) -> None:
    """A checkpoint gone, outputs gone, another's files: each in turn, each mended before the next."""
    silver, bronze, gold = (used.flows[layer] for layer in (Layer.SILVER, Layer.BRONZE, Layer.GOLD))
    kept = used.root.parent / "kept"
    shutil.copytree(used.root, kept)

    shutil.rmtree(bronze.layout.output)
    assert "make reset FEED=transactions SINK=bronze" in _refusal(used)
    shutil.copytree(kept / "transactions" / "bronze", bronze.layout.output)

    for file in gold.files():
        file.path.unlink()
    assert "make reset FEED=transactions SINK=gold" in _refusal(used)
    used.op("reset", SINK="gold", YES="1")
    used.drain()
    assert used.count("gold") > 0
    assert used.audit().wrong == []

    stranger = silver.layout.output / "silver_20200101_000000_0000009999.parquet"
    shutil.copy(silver.files()[0].path, stranger)
    assert stranger.name in _refusal(used)
    stranger.unlink()

    shutil.rmtree(silver.checkpoint.path)
    assert "make reset FEED=transactions SINK=silver" in _refusal(used)
    used.op("reset", SINK="silver", YES="1")
    used.drain()
    assert used.count("silver") == 1000
    assert used.audit().wrong == []


def test_a_topic_that_lost_records_and_then_was_made_again(used: Service, broker: KafkaBroker) -> None:
    """Offsets that expired before they were read, and a new topic of the same name."""
    now = time.time()
    broker.send(used.feed.topic, [transaction(1000 + i, now - 300 + i * 0.1) for i in range(300)])
    admin = broker.admin
    everything = [TopicPartition(used.feed.topic, p, -1) for p in range(PARTITIONS)]
    for future in admin.delete_records(everything).values():
        future.result()
    line = _refusal(used)
    assert "no longer holds" in line
    assert "FAIL_ON_DATA_LOSS=false" in line
    broker.send(used.feed.topic, [transaction(2000 + i, now - 200 + i * 0.1) for i in range(300)])
    used.drain(FAIL_ON_DATA_LOSS="false")
    assert used.count("silver") == 1300
    assert used.audit().wrong == []

    topic = used.feed.topic
    _make_again(broker, topic)
    line = _refusal(used)
    assert "deleted and created again" in line
    assert "make reset FEED=transactions SINK=bronze" in line
    used.op("reset", YES="1")
    broker.send(topic, [transaction(3000 + i, now - 100 + i * 0.1) for i in range(30)])
    used.start()
    wait_for(lambda: used.count("raw_csv") == 30, "the records of the new topic")

    # once more, under the running service
    read = used.contents("bronze")
    _make_again(broker, topic)
    broker.send(topic, [transaction(4000 + i, now - 100 + i * 0.1) for i in range(60)])
    line = used.end(expected=2).strip().splitlines()[-1]
    assert "deleted and created again" in line or "there is no topic" in line  # for a moment there was none
    assert used.contents("bronze") == read


def _make_again(broker: KafkaBroker, topic: str) -> None:
    admin = broker.admin
    admin.delete_topics([topic])[topic].result()
    wait_for(lambda: topic not in admin.list_topics(timeout=5).topics, "the topic to go")
    broker.create_topic(topic)


def test_a_stop_before_there_is_anything_to_drain(service: Service) -> None:
    """While it waits for Kafka, SIGTERM ends it as later: exit 0, one line."""
    service.environment["KAFKA_BOOTSTRAP_SERVERS"] = f"127.0.0.1:{any_free()}"
    service.start()
    wait_for(lambda: service.log.exists() and "waiting for Kafka" in service.log.read_text(), "it to wait for Kafka")
    log = service.stop()
    assert "stopped before it began" in log.splitlines()[-1]
    assert "Traceback" not in log
    assert "Exception" not in log


def test_a_second_instance_on_one_output_path(service: Service) -> None:
    service.start()
    assert service.process
    wait_for(lambda: "started" in service.log.read_text(), "the first instance")
    second = Service(service.root, service.feeds_path, service.servers)
    first_log = service.log.read_text()
    second.drain(expected=2)
    line = service.log.read_text()[len(first_log) :]
    assert "is in use by process" in line
    assert "in use by process" in service.op("reset", expected=2, YES="1")
    service.stop()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("TRIGGER_INTERVAL", "now and then"), ("RETENTION", "burn"), ("FEEDS", "nothing"), ("OUTPUT_PATH", "s3a://lake")],
)
def test_a_wrong_setting_is_one_line_that_names_it(service: Service, setting: str, value: str) -> None:
    service.start(**{setting: value})
    (line,) = service.end(expected=2).strip().splitlines()
    assert value in line
    assert setting in line or value == "nothing"


def test_the_last_line_is_an_object_where_all_lines_are(service: Service) -> None:
    service.start(LOG_FORMAT="json", FEEDS="nothing")
    told = json.loads(service.end(expected=2))
    assert (told["level"], told["exit_code"]) == ("ERROR", 2)
    assert "nothing.toml" in told["message"]
