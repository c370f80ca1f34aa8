"""Three brokers, of which some go: leaders move and come back, and an unclean election gives offsets away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from stream_app.admission import topic_epochs
from stream_app.errors import StreamAppError
from stream_app.settings import PROJECT
from stream_app.sources.messages import OffsetRange
from stream_app.sources.split import encoded
from stream_app.sources.topic_records import Records
from tests.faults.test_random_kills import TRANSACTIONS, Sender, check_oracle
from tests.service.cluster import BROKERS, Cluster, running
from tests.service.harness import Service, ended_by, failures, jvm_options, transaction, wait_for
from tests.service.servers import PATIENCE_SECONDS


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    with running(folder) as cluster:
        yield cluster


@pytest.fixture
def service(cluster: Cluster, tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "run" / "output", PROJECT / "conf" / "feeds", cluster.address)
    service.environment |= jvm_options(tmp_path / "run")
    yield service
    service.kill()


def send(cluster: Cluster, topic: str, numbers: range) -> None:
    """Send valid records to partition 0, and wait until they are acknowledged."""
    producer = Producer({"bootstrap.servers": cluster.address, "log_level": 0})
    for number in numbers:
        key, value, at = transaction(number, time.time() - 60)
        producer.produce(topic, value, key=key, timestamp=at, partition=0)
    assert producer.flush(PATIENCE_SECONDS) == 0


COPY = """
[sinks.copied]
of = "silver"
to = "kafka"
topic = "copied"
key = "card_id"
headers = ["txn_id"]
"""


def test_brokers_that_restart_one_after_another_cost_no_restart_of_a_query(
    cluster: Cluster, service: Service, tmp_path: Path
) -> None:
    """Leaders move, partitions are unknown for a moment: all that is waited for, in bronze and in the topic sink."""
    service.feeds_path = tmp_path / "feeds"
    service.feeds_path.mkdir()
    declared = (PROJECT / "conf" / "feeds" / "transactions.toml").read_text()
    (service.feeds_path / "transactions.toml").write_text(declared + COPY)
    placed = [[1, 2, 3], [2, 3, 1], [3, 1, 2]]
    for topic in (service.feed.topic, "copied"):
        cluster.create_topic(topic, placed, **{"min.insync.replicas": "2"})
    kafka = cluster.by_address()
    sender = Sender(kafka, service.feed.topic, TRANSACTIONS)
    sender.start()
    try:
        service.start()
        wait_for(lambda: service.count("silver") > 0, "the first records")
        for node in BROKERS:
            cluster.stop_node(node)
            _comes_on(service, sender)
            cluster.start_node(node)
            wait_for(lambda: all(cluster.in_sync(service.feed.topic, p) == {*BROKERS} for p in range(3)), "replicas")
            _comes_on(service, sender)
    finally:
        sender.end()
    assert {row["last_error"] for row in _status(service)} == {""}
    assert failures(service.stop()) == []
    service.drain()
    check_oracle(service, kafka.records(service.feed.topic), sender.acknowledged, 1)
    copied = {json.loads(value)["txn_id"] for value in kafka.records("copied").values()}
    assert copied == {str(row[0]) for row in service.query("SELECT txn_id FROM silver")}


def _comes_on(service: Service, sender: Sender) -> None:
    """Wait until a record has come through that is sent from now on."""
    newest = f"t{max(sender.acknowledged, default=0):08d}"
    wait_for(lambda: service.query(f"SELECT max(txn_id) > '{newest}' FROM silver") == [(True,)], "progress")


def _status(service: Service) -> list[dict[str, Any]]:
    return list(json.loads(service.op("status", FORMAT="json")))


@pytest.mark.proves("Offsets that Kafka gave away are named and not skipped")
def test_offsets_that_an_unclean_election_gave_away_are_named(cluster: Cluster, service: Service) -> None:
    """300 records are read; 200 of them and others at the offsets of the rest are what Kafka has after the election."""
    topic = service.feed.topic
    cluster.create_topic(topic, [[1, 2]], **{"unclean.leader.election.enable": "true", "min.insync.replicas": "1"})
    send(cluster, topic, range(200))
    wait_for(lambda: cluster.in_sync(topic) == {1, 2}, "the follower")
    cluster.kill_node(2)
    wait_for(lambda: cluster.in_sync(topic) == {1}, "the follower to be missed")
    send(cluster, topic, range(200, 300))
    service.drain()
    cluster.kill_node(1)
    cluster.start_node(2)
    wait_for(lambda: cluster.leader(topic) == 2, "the follower to lead")
    send(cluster, topic, range(1000, 1150))

    said = f"topic {topic}, partition 0: was read up to offset 300, but an unclean leader election has cut the log at"
    log = service.drain(expected=2)
    assert f"{said} offset 200" in ended_by(log)
    assert "make reset FEED=transactions SINK=bronze" in ended_by(log)
    _a_task_names_it(service, said)

    goes_on = service.drain(FAIL_ON_DATA_LOSS="false")[len(log) :]
    # a start of the query looks once, and so does the batch; a busy machine may need a second start
    tried = 1 + goes_on.count("transactions.bronze failed failures=")
    told = goes_on.count(f"{said} offset 200: offsets 200 to 300 are other records now, or none")
    assert 2 <= told <= 2 * tried, goes_on
    assert service.count("bronze") == 350, "the records after those that were given away"
    assert service.query('SELECT count(*), min("offset"), max("offset") FROM bronze') == [(350, 0, 349)]
    assert "election has cut" not in service.drain()[len(log + goes_on) :], "what was read since is the log of today"


def _a_task_names_it(service: Service, said: str) -> None:
    """As of an election while the service runs, which no start has asked about."""
    flow = service.flows["bronze"]
    planned = flow.checkpoint.last_committed()
    assert planned
    position = topic_epochs.before(flow, planned.batch_id + 1)[0]
    assert (position.offset, position.epoch >= 0) == (300, True)
    share = encoded([[OffsetRange(0, 300, 350, position)]])
    with pytest.raises(StreamAppError, match=f"{said} offset 200: offsets 200 to 300 are"):
        list(Records(flow, service.settings.kafka, fail_on_data_loss=True).read(iter([share])))
