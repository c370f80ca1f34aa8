"""How many of silver's records were in time, and how large checkpoints are: what an objective and an alert go by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream_app.feeds.feed import Feed
from stream_app.flows.batch import planned
from stream_app.flows.flow import Flow
from stream_app.observe.metrics import Metrics
from stream_app.observe.monitor import Monitor
from stream_app.observe.promptness import Promptness
from stream_app.observe.sizes import Size, Sizes
from stream_app.sinks.registry import flows
from stream_app.sinks.report import IN_TIME, TAKEN
from tests.helpers import START, bronze_row, flow_of, plan, value, write_layer

TRIGGER = 30.0


@pytest.fixture
def silver(feed: Feed, tmp_path: Path) -> Flow:
    return flow_of(feed, "silver", tmp_path)


def took(
    silver: Flow,
    ages: Sequence[float],
    monkeypatch: pytest.MonkeyPatch,
    *,
    row_group: int | None = None,
    seen: float = 1000,
) -> None:
    """Bronze began at START; its batch 1 has records of those ages when silver's is visible, `seen` seconds later."""
    assert silver.upstream
    write_layer(silver.upstream, 0, [bronze_row(0, value(0))])
    rows = [bronze_row(1 + n, value(n), seen - age) for n, age in enumerate(ages)]
    write_layer(silver.upstream, 1, rows, row_group=row_group)
    plan(silver, 0, {"batch": 0})
    plan(silver, 1, {"batch": 1})
    monkeypatch.setattr("time.time", lambda: START.timestamp() + seen)


@pytest.mark.parametrize("row_group", [None, 1, 2])
def test_records_are_in_time_up_to_two_triggers(
    silver: Flow, monkeypatch: pytest.MonkeyPatch, row_group: int | None
) -> None:
    took(silver, [0, 59, 60, 61, 999, 30], monkeypatch, row_group=row_group)
    assert Promptness(TRIGGER).counters(silver, planned(silver, 1)) == {TAKEN: 6, IN_TIME: 4}


def test_of_records_that_are_in_time_the_footer_tells(silver: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    took(silver, [1, 2, 3], monkeypatch)
    batch = planned(silver, 1)
    monkeypatch.setattr("pyarrow.parquet.ParquetFile.read_row_group", None)
    assert Promptness(TRIGGER).counters(silver, batch) == {TAKEN: 3, IN_TIME: 3}


def test_history_from_before_bronze_began_does_not_count(silver: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    took(silver, [1001, 5000, 10, 500], monkeypatch)
    assert Promptness(TRIGGER).counters(silver, planned(silver, 1)) == {TAKEN: 2, IN_TIME: 1}


def test_history_is_not_in_time_either(silver: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first minute history is young enough, and does not count all the same."""
    took(silver, [10, 30], monkeypatch, seen=20)
    assert Promptness(TRIGGER).counters(silver, planned(silver, 1)) == {TAKEN: 1, IN_TIME: 1}


def test_only_silver_counts_and_only_while_somebody_waits(
    silver: Flow, feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    took(silver, [10], monkeypatch)
    assert Promptness(0).counters(silver, planned(silver, 1)) == {}
    quarantine = flow_of(feed, "quarantine", tmp_path)
    plan(quarantine, 0, {"batch": 1})
    assert Promptness(TRIGGER).counters(quarantine, planned(quarantine, 0)) == {}


def test_a_file_that_retention_took_fails_no_batch(silver: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    took(silver, [10], monkeypatch)
    batch = planned(silver, 1)
    for file in batch.inputs:
        file.path.unlink()
    assert Promptness(TRIGGER).counters(silver, batch) == {TAKEN: 0, IN_TIME: 0}


def test_a_checkpoint_is_looked_at_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    found = Sizes()
    assert found.of(tmp_path / "none") == Size(0, 0)
    (tmp_path / "state" / "0").mkdir(parents=True)
    (tmp_path / "state" / "0" / "1.delta").write_bytes(b"12345")
    (tmp_path / "metadata").write_bytes(b"1")
    assert found.of(tmp_path) == Size(2, 6)
    (tmp_path / "more").write_bytes(b"123")
    assert found.of(tmp_path) == Size(2, 6)
    now += 61
    assert found.of(tmp_path) == Size(3, 9)


def test_metrics_have_both_from_the_start(feed: Feed, tmp_path: Path) -> None:
    made = tuple(flows([feed], tmp_path))
    folder = flow_of(feed, "gold", tmp_path).checkpoint.path
    folder.mkdir(parents=True)
    (folder / "metadata").write_bytes(b"1234")
    text = Metrics(Monitor(made), 10)._metrics()[2].decode()
    values = {
        (sample.name.removeprefix("stream_app_"), sample.labels["sink"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels
    }
    assert values["records_taken_total", "silver"] == values["records_in_time_total", "silver"] == 0
    assert ("records_taken_total", "bronze") not in values
    assert values["checkpoint_bytes", "gold"] == 4
    assert values["checkpoint_files", "gold"] == 1
