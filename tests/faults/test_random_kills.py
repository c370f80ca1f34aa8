"""Kill -9 at random moments while records come in: nothing is lost, nothing stands twice, and progress is made."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import pytest
from confluent_kafka import KafkaError, Message, Producer

from tests.service.activity import check_topic, event, with_delta_tables
from tests.service.harness import Service, transaction, wait_for
from tests.service.servers import PATIENCE_SECONDS, Database, KafkaBroker

KILLS = int(os.environ.get("RANDOM_KILLS", "15"))
"""Of both tests together; one of three with the second feed, whose starts take longer."""
RECORDS_PER_SECOND = 100
Place = tuple[int, int]
"""Partition and offset."""
_PAGES = ("session_start", *["page_view", "click"] * 10, "session_end")


@dataclass(frozen=True)
class Stream:
    """What a producer sends: the record of a number, and how many seconds of event time it is after the one before.

    Faster than the clock, so that windows become final in between.
    """

    record: Callable[[int, float], tuple[str, bytes, int]]
    pace: float


def _activity(number: int, at: float) -> tuple[str, bytes, int]:
    """Ten users, one visit after the other; half of them never end one."""
    user, (visit, step) = number % 10, divmod(number // 10, len(_PAGES))
    event_type = "click" if user % 2 and step == len(_PAGES) - 1 else _PAGES[step]
    return event(number, at, user, f"s{user}-{visit}", event_type, step)


TRANSACTIONS, ACTIVITY = Stream(transaction, 0.1), Stream(_activity, 0.5)


class Sender(threading.Thread):
    """Sends unique sequence numbers steadily, and remembers where the broker said that it has them.

    A delivery report without an offset is librdkafka's own conclusion: a broker takes no batch without the one before
    it, and it took a later one. But a broker that restarts forgets a producer whose newest record is older than
    producer.id.expiration.ms, one day by its timestamp. These are four days old, so such a record may be lost or twice.
    """

    def __init__(self, kafka: KafkaBroker, topic: str, stream: Stream) -> None:
        super().__init__(daemon=True)
        self.acknowledged: dict[int, Place] = {}
        self.unsent = 0
        self._topic = topic
        self._stream = stream
        self._ended = threading.Event()
        self._producer = Producer(
            {"bootstrap.servers": kafka.address, "enable.idempotence": True, "linger.ms": 20, "log_level": 0}
        )

    def run(self) -> None:
        number, first = 0, time.time() - 4 * 86_400  # never in the future
        while not self._ended.wait(1 / RECORDS_PER_SECOND):
            key, value, at = self._stream.record(number, first + number * self._stream.pace)
            if number % 100 == 7:
                value = b"\xff" + value
            self._producer.produce(self._topic, value, key=key, timestamp=at, on_delivery=self._delivered(number))
            self._producer.poll(0)
            number += 1
        self.unsent = self._producer.flush(PATIENCE_SECONDS)

    def end(self) -> None:
        """Have it end; nothing is on its way any more."""
        self._ended.set()
        self.join()
        assert self.unsent == 0

    def _delivered(self, number: int) -> Callable[[KafkaError | None, Message], None]:
        def note(error: KafkaError | None, message: Message) -> None:
            partition, offset = message.partition(), message.offset()
            if error is None and partition is not None and offset is not None:
                self.acknowledged[number] = partition, offset

        return note


@pytest.mark.timeout(4 * 3600 + 60 * KILLS)
@pytest.mark.proves("Nothing is lost and nothing is twice", "bronze", "quarantine", "silver", "windows", "csv")
def test_random_kills_lose_and_double_nothing(broker: KafkaBroker, service: Service) -> None:
    kills = KILLS - KILLS // 3
    acknowledged = _killed_at_random(broker, service, TRANSACTIONS, kills, longest=8)
    check_oracle(service, broker.records(service.feed.topic), acknowledged, kills)


@pytest.mark.timeout(4 * 3600 + 60 * KILLS)
@pytest.mark.proves("Nothing is lost and nothing is twice")
def test_random_kills_with_tables_a_topic_a_lake_and_sessions(
    broker: KafkaBroker, database: Database, new_service: Callable[..., Service]
) -> None:
    service = with_delta_tables(new_service, broker, database)
    kills = KILLS // 3
    acknowledged = _killed_at_random(broker, service, ACTIVITY, kills, longest=20)
    check_oracle(service, broker.records(service.feed.topic), acknowledged, kills)
    check_topic(service, broker)
    assert database.query("SELECT count(*) FROM user_sessions WHERE final") > [(0,)]
    silver = service.contents("silver")
    assert service.query("SELECT * EXCLUDE (event_date) FROM activity_table ORDER BY ALL") == silver != []


def _killed_at_random(
    broker: KafkaBroker, service: Service, stream: Stream, kills: int, longest: float
) -> dict[int, Place]:
    """Run and kill the service while records come in; what was acknowledged.

    One kill of three falls into its start, the others come up to `longest` seconds after it. After four kills it is
    stopped as `docker stop` would, and in the middle of each fifteen the broker is restarted under it.
    """
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    print(f"seed {seed}, {kills} kills")
    sender = Sender(broker, service.feed.topic, stream)
    sender.start()
    try:
        for kill in range(kills):
            told = _start(service)
            if kill % 3:
                wait_for(partial(_is_told, service, told), "the service to start")
            if kill % 15 == min(kills, 15) // 2:
                broker.stop()
                broker.start()
            time.sleep(chance.uniform(0.5, longest))  # the moment of the kill is the point of the test
            assert service.process
            assert service.process.poll() is None, service.log.read_text()[-4000:]
            service.kill()
            print(f"{time.strftime('%H:%M:%S')} kill {kill + 1} of {kills}", flush=True)
            if kill % 4 == 3:
                before = service.count("silver")
                _start(service)
                wait_for(partial(_has_more, service, before), "progress after the kills")
                service.stop()
    finally:
        sender.end()
    service.drain(MAX_FILES_PER_SINK="8")
    return sender.acknowledged


def _start(service: Service) -> int:
    """Start it; the length of its log so far."""
    told = service.log.stat().st_size if service.log.exists() else 0
    service.start(MAX_FILES_PER_SINK="8")
    return told


def _is_told(service: Service, told: int) -> bool:
    return b" started " in service.log.read_bytes()[told:]


def _has_more(service: Service, before: int) -> bool:
    return service.count("silver") > before


def check_oracle(service: Service, kafka: Mapping[Place, bytes], acknowledged: Mapping[int, Place], kills: int) -> None:
    """Every acknowledged record is in bronze once, and in silver or quarantine once; the rest agrees with silver.

    What is a record is for Kafka to say, by partition and offset, and a consumer of our own asks it: a producer may
    send a number again when its broker comes back, idempotent though it is (see Sender).
    """
    assert len(acknowledged) > kills * 4 * RECORDS_PER_SECOND // 4, "too little was sent to prove anything"
    assert service.feed.dedupe
    (key,), layer = service.feed.dedupe.keys, next(iter(service.feed.windows))
    rows = service.query('SELECT partition, "offset", value FROM bronze')
    bronze = {(int(str(partition)), int(str(offset))): value for partition, offset, value in rows}
    assert len(rows) == len(bronze), "a record stands twice in bronze"
    different = {place for place in {*bronze, *kafka} if bronze.get(place) != kafka.get(place)}
    assert different == set(), "bronze is not what Kafka holds"
    sent = re.compile(rf'"{key}": "[^"]*?([0-9]+)"'.encode())
    number = {place: int(found[1]) for place, value in kafka.items() if (found := sent.search(value))}
    assert max(acknowledged) in number.values(), "the newest record has not arrived"
    numbers = set(number.values())
    print(f"{len(rows)} records in bronze, {len(rows) - len(numbers)} of them numbers that Kafka has again")
    missing = {n: at for n, at in acknowledged.items() if number.get(at) != n}
    assert missing == {}, "an acknowledged record is not in bronze"
    good = {int(re.sub("^t|-", "", str(row[0]))) for row in service.query(f"SELECT {key} FROM silver")}
    valid = {n for n in numbers if n % 100 != 7}
    assert good == valid, "silver has not all that are valid, and no other"
    assert service.count("silver") == len(good), "a record stands twice in silver"
    bad = [n for n in number.values() if n % 100 == 7]
    assert service.count("quarantine") == len(bad), "quarantine has not each of the others once"
    assert service.count(layer) > 0, "no window became final"
    wrong = service.audit().wrong
    assert wrong == [], "the audit found something"
