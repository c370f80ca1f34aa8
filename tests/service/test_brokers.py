"""Three brokers, of which some go: leaders move and come back, and an unclean election gives offsets away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from stream_app.errors import StreamAppError
from stream_app.settings import PROJECT
from stream_app.sources import epochs
from stream_app.sources.partition import OffsetRange
from stream_app.sources.records import Records
from stream_app.sources.split import encoded
from tests.service.cluster import Cluster, running
from tests.service.harness import Service, jvm_options, transaction, wait_for


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
    assert producer.flush(60) == 0


@pytest.mark.timeout(900)
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
    assert f"{said} offset 200" in log.splitlines()[-1]
    assert "make reset FEED=transactions SINK=bronze" in log.splitlines()[-1]
    _a_task_names_it(service, said)

    goes_on = service.drain(FAIL_ON_DATA_LOSS="false")[len(log) :]
    # the two looks of a start, and the batch
    assert goes_on.count(f"{said} offset 200: offsets 200 to 300 are other records now, or none") == 3, goes_on
    assert service.count("bronze") == 350, "the records after those that were given away"
    assert service.query('SELECT count(*), min("offset"), max("offset") FROM bronze') == [(350, 0, 349)]
    assert "election has cut" not in service.drain()[len(log + goes_on) :], "what was read since is the log of today"


def _a_task_names_it(service: Service, said: str) -> None:
    """As of an election while the service runs, which no start has asked about."""
    flow = service.flows["bronze"]
    planned = flow.checkpoint.last_committed()
    assert planned
    position = epochs.before(flow, planned.batch_id + 1)[0]
    assert (position.offset, position.epoch >= 0) == (300, True)
    share = encoded([[OffsetRange(0, 300, 350, position)]])
    with pytest.raises(StreamAppError, match=f"{said} offset 200: offsets 200 to 300 are"):
        list(Records(flow, service.settings).read(iter([share])))
