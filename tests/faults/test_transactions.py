"""Transactions of producers: what was aborted never shows, what is open holds up its partition alone."""

import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from stream_app.flows import unread
from stream_app.ops.status import status
from tests.ports import free_port
from tests.service.harness import Service, ended_by, transaction, wait_for
from tests.service.servers import PATIENCE_SECONDS, KafkaBroker
from tests.service.watch import get


def begun(broker: KafkaBroker, topic: str, numbers: range, partition: int = 0) -> Producer:
    """A transaction with those records, acknowledged and not ended."""
    # or the broker would end it by itself
    lasts = {"transactional.id": f"{topic}-{numbers.start}", "transaction.timeout.ms": 900_000}
    together = {"linger.ms": 2_000}  # in one batch, however slow the machine
    producer = Producer({"bootstrap.servers": broker.address, **lasts, **together})
    producer.init_transactions(PATIENCE_SECONDS)
    producer.begin_transaction()
    for number in numbers:
        key, value, at = transaction(number, time.time() - 60)
        producer.produce(topic, value, key=key, timestamp=at, partition=partition)
    assert producer.flush(PATIENCE_SECONDS) == 0
    return producer


def keys(service: Service, layer: str = "silver") -> set[int]:
    return {int(str(key)[1:]) for (key,) in service.query(f"SELECT txn_id FROM {layer}")}


def _bronze(service: Service) -> tuple[int | None, str]:
    (bronze,) = [row for row in status(service.root, tuple(service.flows.values())).sinks if row.sink == "bronze"]
    return bronze.held, bronze.state


@pytest.mark.proves("Aborted transactions are in no layer", "bronze", "silver")
def test_an_output_of_read_uncommitted_goes_on_and_aborted_records_are_left_out(
    service: Service, broker: KafkaBroker
) -> None:
    topic, port = service.feed.topic, free_port()
    open_one = begun(broker, topic, range(5))
    begun(broker, topic, range(10, 12)).commit_transaction(PATIENCE_SECONDS)
    service.drain(KAFKA_ISOLATION_LEVEL="read_uncommitted")
    assert keys(service) == {0, 1, 2, 3, 4, 10, 11}
    service.start(METRICS_PORT=str(port))
    wait_for(lambda: "a transaction is open" in get(port, "healthz")[1], "bronze to wait, and to say for what")
    open_one.abort_transaction(PATIENCE_SECONDS)
    begun(broker, topic, range(20, 40)).abort_transaction(PATIENCE_SECONDS)
    begun(broker, topic, range(40, 55)).commit_transaction(PATIENCE_SECONDS)
    expected = {0, 1, 2, 3, 4, 10, 11, *range(40, 55)}
    wait_for(lambda: keys(service) == expected, "what was committed")

    held = begun(broker, topic, range(60, 67))  # and it stays so
    begun(broker, topic, range(70, 75)).commit_transaction(PATIENCE_SECONDS)  # behind it
    begun(broker, topic, range(80, 90), 1).commit_transaction(PATIENCE_SECONDS)
    wait_for(lambda: keys(service) == expected | {*range(80, 90)}, "the other partition")
    metric = (
        f'stream_app_records_in_open_transactions{{feed="transactions",partition="0",sink="bronze",topic="{topic}"}}'
    )
    wait_for(lambda: f"{metric} 13.0" in get(port, "metrics")[1], "what waits, the last marker with it")
    wait_for(lambda: _bronze(service) == (13, "running"), "the status, which is of a second ago")
    said = "transactions.bronze: 13 records wait for open transactions"
    wait_for(lambda: said in service.op("status"), "the command to say so")
    held.commit_transaction(PATIENCE_SECONDS)
    expected |= {*range(60, 67), *range(70, 75), *range(80, 90)}
    wait_for(lambda: keys(service) == expected, "what had waited")
    begun(broker, topic, range(100, 110)).abort_transaction(PATIENCE_SECONDS)  # the very end of the topic
    wait_for(lambda: service.has_read_all(broker), "the end")
    wait_for(lambda: metric not in get(port, "metrics")[1], "nothing to wait any more")
    service.stop()
    assert keys(service) == expected
    assert service.audit().wrong == []


@pytest.mark.proves("What cannot be read is named and stepped over only by choice")
def test_a_damaged_batch_is_told_with_what_to_do_and_stepped_over_by_setting(
    new_service: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> None:
    kafka = KafkaBroker(tmp_path_factory.mktemp("own-broker"), free_port())
    kafka.start()
    try:
        service = new_service(kafka)
        topic = service.feed.topic
        for numbers in (range(10), range(10, 20), range(20, 30)):
            begun(kafka, topic, numbers).commit_transaction(PATIENCE_SECONDS)
        kafka.stop()
        kafka.damage(topic, 11)  # at 10 is the marker of the first
        kafka.start()
        log = service.drain(expected=1, MAX_FAILURES="3")  # a slow machine may fail once to start a source
        said = f"topic {topic}, partition 0, offsets 11 to 20: the batch is damaged (CRC); go on without it by FAIL"
        assert f"transactions.bronze failed 3 times in a row, the last time with: {said}" in ended_by(log)
        assert "make reset FEED=transactions SINK=bronze" in ended_by(log)
        service.drain(FAIL_ON_DATA_LOSS="false")
        assert keys(service) == {*range(10), *range(20, 30)}
        noted = unread.read(service.flows["bronze"])
        assert noted == {0: [unread.Unread(0, 11, 21, "the batch is damaged (CRC)")]}
        assert service.audit().wrong == []
    finally:
        kafka.stop()
