"""Kill -9 at random moments while records come in: nothing is lost, nothing stands twice, and progress is made."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest
from confluent_kafka import KafkaError, Message, Producer

from tests.service.harness import KafkaBroker, Service, transaction, wait_for

KILLS = int(os.environ.get("RANDOM_KILLS", "15"))
RECORDS_PER_SECOND = 100


class Sender(threading.Thread):
    """Sends unique sequence numbers steadily, and remembers which were acknowledged."""

    def __init__(self, kafka: KafkaBroker, topic: str) -> None:
        super().__init__(daemon=True)
        self.acknowledged: set[int] = set()
        self._topic = topic
        self._ended = threading.Event()
        self._producer = Producer(
            {"bootstrap.servers": kafka.address, "enable.idempotence": True, "linger.ms": 20, "log_level": 0}
        )

    def run(self) -> None:
        # ten times as fast as the clock, so that gold's windows become final in between; never in the future
        number, first = 0, time.time() - 2 * 86_400
        while not self._ended.wait(1 / RECORDS_PER_SECOND):
            key, value, at = transaction(number, first + number / 10)
            if number % 100 == 7:
                value = b"\xff" + value
            self._producer.produce(self._topic, value, key=key, timestamp=at, on_delivery=self._delivered(number))
            self._producer.poll(0)
            number += 1
        self._producer.flush(60)

    def end(self) -> None:
        self._ended.set()
        self.join()

    def _delivered(self, number: int) -> Callable[[KafkaError | None, Message], None]:
        return lambda error, _message: None if error else self.acknowledged.add(number)


@pytest.mark.timeout(3600 + 60 * KILLS)
def test_random_kills_lose_and_double_nothing(broker: KafkaBroker, service: Service) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    print(f"seed {seed}, {KILLS} kills")
    sender = Sender(broker, service.feed.topic)
    sender.start()
    try:
        for kill in range(KILLS):
            service.start(MAX_FILES_PER_SINK="8")
            if kill % 5 == 4:
                before = service.count("silver")
                wait_for(partial(_has_more, service, before), "progress after the kills")
                service.stop()
            else:
                time.sleep(chance.uniform(4, 16))  # the moment of the kill is the point of the test
                service.kill()
            if kill == KILLS // 2:
                broker.stop()
                broker.start()
    finally:
        sender.end()
    service.drain(MAX_FILES_PER_SINK="8")
    check_oracle(service, sender.acknowledged)


def _has_more(service: Service, before: int) -> bool:
    return service.count("silver") > before


def check_oracle(service: Service, acknowledged: set[int]) -> None:
    """Every acknowledged record is in bronze once, and in silver or quarantine once; the rest agrees with silver."""
    assert len(acknowledged) > KILLS * 4 * RECORDS_PER_SECOND // 4, "too little was sent to prove anything"
    sent = 'CAST(regexp_extract(decode(value[%d:]), \'"txn_id": "t([0-9]+)"\', 1) AS BIGINT)'
    numbers = f"CASE WHEN value[1:1] = '\\xFF'::BLOB THEN {sent % 2} ELSE {sent % 1} END"
    bronze = [int(str(row[0])) for row in service.query(f"SELECT {numbers} FROM bronze")]
    assert max(acknowledged) in set(bronze), "the newest record has not arrived"
    assert len(bronze) == len(set(bronze)), "a record stands twice in bronze"
    assert set(bronze) >= acknowledged, "an acknowledged record is not in bronze"
    good = {int(str(row[0])[1:]) for row in service.query("SELECT txn_id FROM silver")}
    assert good == {number for number in bronze if number % 100 != 7}, "silver has not all that are valid, and no other"
    assert service.count("silver") == len(good), "a record stands twice in silver"
    assert service.count("quarantine") == len(bronze) - len(good), "quarantine has not each of the others once"
    assert service.count("gold") > 0, "no window became final"
    wrong = service.audit().wrong
    assert wrong == [], "the audit found something"
