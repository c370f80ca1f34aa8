"""A sample of a topic has its newest records; what nobody can read of it is stepped over and told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from confluent_kafka import Consumer

from stream_app.cli.main import main
from stream_app.errors import StreamAppError, UnavailableError
from stream_app.flows.unread import Unread
from stream_app.ops.feed_new import feed_new
from stream_app.sources import sample, topic_partition
from stream_app.sources.sample import newest
from tests.helpers import app_settings
from tests.unit.test_partition import Log


@pytest.fixture
def log_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Log], list[dict[str, object]]]:
    """Has a topic of one partition with that log; what its consumers are configured with is noted in the list."""

    def give(log: Log) -> list[dict[str, object]]:
        configured: list[dict[str, object]] = []

        def consumer(config: dict[str, object]) -> Log:
            configured.append(config)
            return log

        broker = SimpleNamespace(
            topic=lambda name: name, stable_offsets=lambda _: {0: log.end}, earliest_offsets=lambda _: {0: 0}
        )
        monkeypatch.setattr(sample, "Broker", lambda _kafka, named_by: broker if named_by else None)
        monkeypatch.setattr(topic_partition, "Consumer", consumer)
        return configured

    return give


DAMAGED = "the batch is damaged (CRC)"


@pytest.mark.parametrize(
    ("batches", "most", "records", "unread"),
    [
        ([(0, 10, True)], 100, 10, []),
        ([(0, 10, True)], 4, 4, []),
        ([(0, 4, True), (4, 9, False), (9, 12, True)], 100, 7, [Unread(0, 4, 9, DAMAGED)]),
        ([(0, 4, True), (4, 9, False), (9, 12, True)], 5, 3, [Unread(0, 7, 9, DAMAGED)]),
        ([(0, 4, True), (4, 9, False)], 100, 4, [Unread(0, 4, 9, DAMAGED)]),
        ([(0, 3, True), (5, 8, True)], 100, 6, []),
    ],
)
def test_the_newest_are_read_and_what_cannot_be_is_stepped_over(
    log_of: Callable[[Log], object],
    tmp_path: Path,
    batches: Sequence[tuple[int, int, bool]],
    most: int,
    records: int,
    unread: list[Unread],
) -> None:
    log_of(Log(batches, batches[-1][1]))
    found = newest(app_settings(tmp_path).kafka, "t", most)
    assert (len(found.records), found.unread) == (records, unread)


def test_a_sample_takes_batches_as_large_as_bronze_does(
    log_of: Callable[[Log], list[dict[str, object]]], tmp_path: Path
) -> None:
    configured = log_of(Log([(0, 1, True)], 1))
    newest(app_settings(tmp_path).kafka, "t", 1)
    (config,) = configured
    assert {**topic_partition.CONFIG, **config} == config
    assert config["receive.message.max.bytes"] == 2**31 - 1
    Consumer({key: value for key, value in config.items() if not key.endswith("_cb")}).close()


def test_of_a_sample_of_which_nothing_can_be_read_no_file_is_made(
    log_of: Callable[[Log], object], tmp_path: Path
) -> None:
    log_of(Log([(0, 5, False)], 5))
    with pytest.raises(StreamAppError, match=r"^topic t: nothing .*: partition 0, offsets 0 to 4: the batch is dam"):
        feed_new(app_settings(tmp_path).kafka, tmp_path, "t")
    assert [*tmp_path.iterdir()] == []


def test_what_was_stepped_over_is_said(
    log_of: Callable[[Log], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = Log([(0, 5, False), (5, 8, True)], 8)
    log_of(log)
    monkeypatch.setattr("tests.unit.test_partition.VALUE", b'{"id": "a"}')
    monkeypatch.setenv("FEEDS_PATH", str(tmp_path))
    assert main(["feed-new", "--topic=t"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == [
        f"{tmp_path / 't.toml'}: written from 3 records",
        f"not read: partition 0, offsets 0 to 4: {DAMAGED}",
    ]


def test_a_broker_that_gives_nothing_is_told(
    log_of: Callable[[Log], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_partition, "PATIENCE_SECONDS", 0.05)
    log = Log([], 2)
    log._from = lambda _at: iter(())  # type: ignore[method-assign, assignment]
    log_of(log)
    with pytest.raises(UnavailableError, match="topic t, partition 0, offsets 0 to 1: nothing came for"):
        newest(app_settings(tmp_path).kafka, "t", 5)
