"""Leader epochs: what is kept of them for the batch that comes next, and where that begins to read."""

import json
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from stream_app.admission import topic_epochs
from stream_app.admission.topic_epochs import Position
from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.kafka.log_cuts import cut_at
from stream_app.sources.messages import OffsetRange
from stream_app.sources.topic_records import shares
from tests.helpers import flow_of


@pytest.fixture
def flow(feed: Feed, tmp_path: Path) -> Flow:
    flow = flow_of(feed, "bronze", tmp_path)
    flow.checkpoint.path.mkdir(parents=True)
    return flow


def test_a_batch_knows_what_all_before_it_have_read_of_each_partition(flow: Flow) -> None:
    assert topic_epochs.before(flow, 0) == {}
    topic_epochs.keep(flow, 0, [{0: (10, 3), 1: (7, 3)}, {1: (9, 4)}])  # partition 1 was shared by two tasks
    assert topic_epochs.before(flow, 1) == {0: Position(10, 3), 1: Position(9, 4)}
    topic_epochs.keep(flow, 1, [])
    topic_epochs.keep(flow, 2, [{1: (12, 5)}])
    assert topic_epochs.before(flow, 3) == {0: Position(10, 3), 1: Position(12, 5)}


def test_a_batch_that_runs_again_knows_the_same(flow: Flow) -> None:
    topic_epochs.keep(flow, 0, [{0: (10, 3)}])
    topic_epochs.keep(flow, 1, [{0: (20, 4)}])
    assert topic_epochs.before(flow, 1) == {0: Position(10, 3)}
    topic_epochs.keep(flow, 1, [{0: (20, 4)}])
    assert topic_epochs.before(flow, 2) == {0: Position(20, 4)}


def test_what_is_not_of_the_batch_before_does_not_count(flow: Flow) -> None:
    """An epoch that is too old would make a log look cut that is whole."""
    topic_epochs.keep(flow, 0, [{0: (10, 3), 1: (5, 3)}])
    assert topic_epochs.before(flow, 2) == {}  # an older version, which keeps nothing, has written batch 1
    topic_epochs.keep(flow, 2, [{1: (8, 4)}])
    assert topic_epochs.before(flow, 3) == {1: Position(8, 4)}
    (kept,) = flow.checkpoint.path.iterdir()
    for left in ("", '{"3": {"0"'):  # by a power cut
        kept.write_text(left)
        assert topic_epochs.before(flow, 3) == {}


def test_a_broker_that_tells_no_epoch_is_asked_nothing(flow: Flow) -> None:
    topic_epochs.keep(flow, 0, [{0: (10, 3)}])
    topic_epochs.keep(flow, 1, [{0: (20, None)}])
    assert topic_epochs.before(flow, 2) == {}


def test_it_stays_as_small_as_two_batches(flow: Flow) -> None:
    for batch in range(10):
        topic_epochs.keep(flow, batch, [{0: (batch, batch)}])
    (kept,) = flow.checkpoint.path.iterdir()
    assert json.loads(kept.read_text()) == {"8": {"0": [8, 8]}, "9": {"0": [9, 9]}}


def test_the_first_range_alone_is_checked_and_begins_behind_the_last_record() -> None:
    whole = OffsetRange(0, 100, 60_100, Position(98, 7))  # at 98 and 99 are marks of transactions
    first, *others = [part for share in shares([whole], 2) for part in share]
    place = topic_epochs.assigned("t", 0, first.start, first.read)
    assert place.offset == 98
    assert place.leader_epoch == 7
    assert [part.read for part in others] == [None]
    unknown = topic_epochs.assigned("t", 0, 100, None)  # as of the first batch
    assert unknown.offset == 100
    assert unknown.leader_epoch is None
    for far in (Position(100 - 20_000, 7), Position(101, 7)):  # too much to read again; a checkpoint that was changed
        assert topic_epochs.assigned("t", 0, 100, far).leader_epoch is None


def test_only_a_log_that_was_cut_is_one() -> None:
    """The texts are librdkafka's, which has no field for the offset; test_brokers.py has it say them."""
    cut = "Partition log truncation detected at offset 80 (leader epoch 0): broker end offset is {} (offset leader 0)"
    assert cut_at(KafkaError(KafkaError._AUTO_OFFSET_RESET, cut.format(50))) == 50
    assert cut_at(KafkaError(KafkaError._AUTO_OFFSET_RESET, cut.format(-1))) == 0
    assert cut_at(KafkaError(KafkaError._AUTO_OFFSET_RESET, "Broker: Offset out of range")) is None
