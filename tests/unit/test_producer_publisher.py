"""Every message is counted once; full queues, absent brokers and signals are waited out, within bounds."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from producer import publisher as publisher_module
from producer.events.transactions import Events
from producer.faults import Kind, Message, Shares, Traffic
from producer.log import Log
from producer.publisher import Delivery, Publisher, PublishError, Stop, Totals
from producer.run import Progress, Run
from producer.settings import Settings
from producer.summary import Ranges, summary

MESSAGE = Message("card_1", b"{}", 1_795_234_830_125, Kind.VALID)
KNOWN = SimpleNamespace(topics={"t": SimpleNamespace(error=None)})


class FakeKafka:
    """A client with a short queue, which delivers what it holds whenever it is polled or flushed."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.room = 3
        self.queue: list[tuple[Message, Delivery]] = []
        self.delivered: list[Message] = []
        self.delivers = True
        self.fails_with: KafkaError | None = None
        self.tells_offsets = True
        self.refuses_with: KafkaError | None = None
        self.full = 0
        self.answers: Iterator[Any] = iter(())
        self.asked: list[str | None] = []

    def produce(self, topic: str, value: bytes | None, key: str, *, on_delivery: Delivery, timestamp: int) -> None:
        assert topic == "t"
        if self.refuses_with:
            raise KafkaException(self.refuses_with)
        if len(self.queue) >= self.room:
            self.full += 1
            raise BufferError
        self.queue.append((Message(key, value, timestamp, Kind.VALID), on_delivery))

    def poll(self, timeout: float) -> int:
        assert timeout <= 0.1, "a signal must not wait longer"
        return self._report(self.fails_with) if self.delivers else 0

    def flush(self, timeout: float) -> int:
        self.poll(min(timeout, 0.1))
        return len(self.queue)

    def purge(self) -> None:
        self._report(KafkaError(KafkaError._PURGE_QUEUE))

    def list_topics(self, topic: str | None, timeout: float) -> Any:
        assert timeout <= 2
        self.asked.append(topic)
        answer = next(self.answers, KNOWN)
        if isinstance(answer, KafkaError):
            self.config["error_cb"](answer)
            raise KafkaException(answer)
        return answer

    def __len__(self) -> int:
        return len(self.queue)

    def _report(self, error: KafkaError | None) -> int:
        reported, self.queue = self.queue, []
        for message, on_delivery in reported:
            place = SimpleNamespace(
                partition=lambda: 0, offset=lambda: len(self.delivered) if self.tells_offsets else None
            )
            on_delivery(error, place)
            if error is None:
                self.delivered.append(message)
        return len(reported)


class Bench:
    """A publisher on a fake client."""

    def __init__(self) -> None:
        self.stop = Stop()
        self.log = Log("json")
        self.ranges = Ranges()
        config = {"bootstrap.servers": "b:1"}
        self.publisher = Publisher(self._connect, config, "t", self.stop, self.log, self.ranges.add)

    def _connect(self, config: dict[str, Any]) -> FakeKafka:
        self.kafka = FakeKafka(config)
        return self.kafka

    def run(self, **settings: Any) -> None:
        values = {"backfill": "0", "msgs_per_sec": 0, **settings}
        progress = Progress(self.publisher.totals, self.log)
        traffic = Traffic(Events(1), Shares(), 1)
        Run(Settings.model_validate(values), traffic, self.publisher, progress, self.stop).publish()
        self.publisher.drain()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    monkeypatch.chdir(tmp_path)  # away from the checkout's own .env
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(publisher_module, "SHORTEST_BACKOFF", 0.001)
    monkeypatch.setattr(publisher_module, "LONGEST_BACKOFF", 0.004)
    return Bench()


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_full_queue_is_waited_out_and_nothing_is_lost(bench: Bench) -> None:
    bench.run(count=100)
    totals = bench.publisher.totals
    assert (totals.sent, totals.acknowledged, totals.failed) == (100, 100, 0)
    assert bench.kafka.full > 0
    assert len({message.value for message in bench.kafka.delivered}) == 100


def test_the_summary_says_where_the_records_are(bench: Bench) -> None:
    bench.run(count=20)
    bench.ranges.add(2, 7)
    bench.ranges.add(0, 20)
    bench.ranges.add(0, 30)  # somebody else sent those between
    assert json.loads(summary("sales", "t", bench.publisher.totals, bench.ranges)) == {
        "feed": "sales",
        "topic": "t",
        "sent": 20,
        "acknowledged": 20,
        "failed": 0,
        "offsets": {"0": [[0, 20], [30, 30]], "2": [[7, 7]]},
    }


def test_a_record_whose_offset_kafka_did_not_tell_is_in_no_range(bench: Bench) -> None:
    bench.kafka.tells_offsets = False
    bench.run(count=20)
    assert bench.publisher.totals.acknowledged == 20
    assert bench.ranges.of_partitions == {}


def test_failed_deliveries_are_counted_and_told_once_in_a_while(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.kafka.fails_with = KafkaError(KafkaError._MSG_TIMED_OUT)
    bench.run(count=50)
    totals = bench.publisher.totals
    assert (totals.sent, totals.acknowledged, totals.failed) == (50, 0, 50)
    assert [event["event"] for event in events(capsys)] == ["delivery failed"]


def test_a_stop_ends_the_wait_for_a_full_queue(bench: Bench) -> None:
    bench.kafka.room = 0
    bench.stop.requested = True
    assert bench.publisher.send(MESSAGE) is False
    assert bench.publisher.totals.sent == 0


@pytest.mark.parametrize("stopped", [True, False])
def test_the_last_wait_is_bounded_and_what_is_given_up_has_failed(
    bench: Bench, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "STOP_SECONDS" if stopped else "DRAIN_SECONDS", 0.02)
    assert bench.publisher.send(MESSAGE)
    bench.kafka.delivers = False
    bench.stop.requested = stopped
    bench.publisher.drain()
    totals = bench.publisher.totals
    assert (totals.sent, totals.acknowledged, totals.failed) == (1, 0, 1)


def test_a_client_that_can_send_no_more_ends_the_run(bench: Bench) -> None:
    bench.kafka.refuses_with = KafkaError(KafkaError._FATAL)
    with pytest.raises(PublishError):
        bench.publisher.send(MESSAGE)


def test_absent_brokers_and_topics_are_waited_for_and_named(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    down, bare = KafkaError(KafkaError._ALL_BROKERS_DOWN), SimpleNamespace(topics={})
    bench.kafka.answers = iter([down, down, bare, KNOWN])
    bench.publisher.wait_for_topic()
    told = events(capsys)
    assert [event["event"] for event in told] == ["waiting for the broker"] * 2 + ["waiting for the topic"]
    assert [event["again_in"] for event in told] == ["0.001s", "0.002s", "0.001s"]
    assert down.str() in told[0]["reason"]
    assert bench.kafka.asked == [None] * 4  # to ask by name could create the topic


def test_a_topic_that_stays_unknown_is_asked_for_by_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "TOPIC_SECONDS", 0.0)
    created = SimpleNamespace(topics={"t": SimpleNamespace(error=KafkaError(KafkaError.LEADER_NOT_AVAILABLE))})
    bench.kafka.answers = iter([SimpleNamespace(topics={}), created, KNOWN])
    bench.publisher.wait_for_topic()
    assert bench.kafka.asked == [None, "t", "t"]


def test_a_stop_ends_the_wait_for_the_broker(bench: Bench) -> None:
    bench.stop.requested = True
    bench.publisher.wait_for_topic()
    assert bench.kafka.asked == []


def test_history_carries_its_own_timestamps_and_counts(bench: Bench) -> None:
    bench.run(backfill="1 minute", msgs_per_sec=10, count=605)
    times = [message.timestamp_ms for message in bench.kafka.delivered]
    assert len(times) == 605
    assert times == sorted(times)
    assert times[599] - times[0] == 59_900
    assert times[600] >= times[0] + 60_000


def test_count_ends_history_too(bench: Bench) -> None:
    bench.run(backfill="1 minute", msgs_per_sec=10, count=7)
    assert bench.publisher.totals.sent == 7


def test_history_is_sent_in_pieces_that_keep_partitions_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.kafka.room = 10_000
    settled: list[int] = []
    settle = bench.publisher.settle

    def note() -> None:
        settle()
        settled.append(bench.publisher.totals.acknowledged)

    monkeypatch.setattr(bench.publisher, "settle", note)
    bench.run(backfill="2 minutes", msgs_per_sec=10, count=1200)
    assert settled == [0, 300, 600, 900, 1200]


def test_progress_is_told_every_fifty_messages_or_five_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    totals, now = Totals(), [0.0]
    progress = Progress(totals, Log("json"), clock=lambda: now[0])
    for _ in range(120):
        totals.sent += 1
        now[0] += 0.2
        progress.by_messages()
    for _ in range(120):
        totals.sent += 1
        now[0] += 0.1
        progress.by_time()
    progress.totals()
    told = events(capsys)
    assert [event["sent"] for event in told] == [50, 100, 130, 180, 230, 240]
    assert told[0]["per_second"] == 5.0
    assert told[-1]["event"] == "totals"
    assert {"acknowledged", "failed", "bad", "late", "future", "repeated", "seconds"} <= told[-1].keys()


def test_log_lines_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    Log("text")("broker trouble", reason='two\nlines, "quoted"', sent=3)
    line = capsys.readouterr().out
    assert line.endswith(' broker trouble reason="two\\nlines, \\"quoted\\"" sent=3\n')
    assert line.count("\n") == 1
