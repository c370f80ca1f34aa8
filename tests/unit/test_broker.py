"""What we ask the broker: what passes while leaders move is asked again, the rest is told at once."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition

from stream_app.errors import ConfigError, StreamAppError, UnavailableError
from stream_app.feeds.feed import Feed
from stream_app.kafka import broker as module
from stream_app.kafka.broker import Broker
from stream_app.kafka.topic import Topic
from stream_app.observe import held
from stream_app.observe.monitor import Decided, Monitor
from stream_app.sinks.registry import flows
from tests.helpers import app_settings, wait_until

TOPIC = Topic("t", "id", (0, 1))


def _future(answer: object) -> "Future[Any]":
    made: Future[Any] = Future()
    if isinstance(answer, int):
        made.set_exception(KafkaException(KafkaError(answer)))
    else:
        made.set_result(answer)
    return made


class Admin:
    """Fails with each of the codes, once, and answers then. Stands in for AdminClient."""

    def __init__(self, *codes: int) -> None:
        self.codes, self.made = list(codes), 0
        self.offsets = {IsolationLevel.READ_UNCOMMITTED: 100, IsolationLevel.READ_COMMITTED: 90}

    def __call__(self, _config: dict[str, object]) -> "Admin":
        self.made += 1
        return self

    def describe_topics(self, _topics: object, **_how: object) -> dict[str, "Future[Any]"]:
        found = SimpleNamespace(topic_id="id", partitions=[SimpleNamespace(id=0), SimpleNamespace(id=1)])
        return {"t": _future(self.codes.pop(0) if self.codes else found)}

    def list_offsets(self, asked: dict[TopicPartition, object], isolation_level: IsolationLevel, **_how: object) -> Any:
        offset = SimpleNamespace(offset=self.offsets[isolation_level])
        return {place: _future(self.codes.pop(0) if self.codes else offset) for place in asked}

    def poll(self, _seconds: float) -> None:
        pass


def ask(
    monkeypatch: pytest.MonkeyPatch, root: Path, *codes: int, patience_seconds: float = 20, **settings: Any
) -> Broker:
    monkeypatch.setattr(module, "AdminClient", Admin(*codes))
    monkeypatch.setattr(module, "_ASK_AGAIN_SECONDS", 0.001)
    return Broker(app_settings(root, **settings).kafka, patience_seconds=patience_seconds)


@pytest.mark.parametrize("code", [KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN])
def test_where_nobody_answers_the_cluster_is_looked_at_anew(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client goes on asking a controller that has gone for as long as it believes in it."""
    admin = Admin(code)
    monkeypatch.setattr(module, "AdminClient", admin)
    monkeypatch.setattr(module, "_ASK_AGAIN_SECONDS", 0.001)
    Broker(app_settings(tmp_path).kafka, patience_seconds=20).topic("t")
    assert admin.made == 2


def test_a_topic_that_is_missing_is_corrected_where_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AdminClient", Admin(*[KafkaError.UNKNOWN_TOPIC_OR_PART] * 2))
    kafka = app_settings(tmp_path).kafka
    for broker, named in ((Broker(kafka), "the feed's `topic`"), (Broker(kafka, named_by="--topic"), "--topic")):
        with pytest.raises(ConfigError, match=rf"^there is no topic t at \S+; create it, or correct {named}$"):
            broker.topic("t")


QUESTIONS: list[Callable[[Broker], object]] = [
    lambda broker: broker.topic("t"),
    lambda broker: broker.earliest_offsets(TOPIC),
    lambda broker: broker.end_offsets(TOPIC),
    lambda broker: broker.stable_offsets(TOPIC),
]
PASSING = [
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_passes_is_asked_again(
    question: Callable[[Broker], object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert question(ask(monkeypatch, tmp_path, *PASSING)) == question(ask(monkeypatch, tmp_path))


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_new_partition_without_a_leader_is_asked_again_by_every_command(
    question: Callable[[Broker], object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_patience = ask(monkeypatch, tmp_path, *PASSING[1:4], patience_seconds=0)
    assert question(without_patience) == question(ask(monkeypatch, tmp_path))


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_does_not_pass_is_told_by_what_it_is(
    question: Callable[[Broker], object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for code, kind in (
        (KafkaError.UNKNOWN_TOPIC_OR_PART, ConfigError),
        (KafkaError.BROKER_NOT_AVAILABLE, UnavailableError),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, StreamAppError),
    ):
        with pytest.raises(StreamAppError) as error:
            question(ask(monkeypatch, tmp_path, code, code, patience_seconds=0))
        assert type(error.value) is kind


def test_what_can_be_read_is_what_is_decided(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broker = ask(monkeypatch, tmp_path)
    assert (broker.stable_offsets(TOPIC), broker.end_offsets(TOPIC)) == ({0: 90, 1: 90}, {0: 100, 1: 100})
    assert ask(monkeypatch, tmp_path, kafka_isolation_level="read_uncommitted").stable_offsets(TOPIC) == {
        0: 100,
        1: 100,
    }


def test_what_open_transactions_hold_back_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, feed: Feed) -> None:
    every = flows([feed.model_copy(update={"topic": "t"})], tmp_path)
    monitor = Monitor(every)
    bronze = next(status for status in monitor.statuses.values() if status.flow.sink == "bronze")
    broker = ask(monkeypatch, tmp_path)
    with held.watched(every, broker, monitor):
        wait_until(lambda: bronze.held == {"0": 10, "1": 10})  # at once
    assert bronze.decided == Decided()
    monkeypatch.setattr(held, "_INTERVAL_SECONDS", 0.001)
    before = time.time()
    with held.watched(every, broker, monitor):
        broker._admin.offsets = dict.fromkeys(IsolationLevel, 100)  # type: ignore[attr-defined]
        wait_until(lambda: bronze.decided != Decided())
    assert bronze.decided
    assert before <= bronze.decided.asked_at <= bronze.decided.answered_at
    assert not any(status.held for status in monitor.statuses.values())
