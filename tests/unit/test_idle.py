"""When the clock of a feed goes on without a record, and how far: by the files, and by what the service says."""

import json
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql.streaming.datasource import ReadAllAvailable

from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.settings import Trigger
from stream_app.sinks.protocol import rows_of
from stream_app.sinks.registry import flows
from stream_app.sources.layer import _idle
from stream_app.sources.layer_reader import LayerReader, Offset, Options
from stream_app.storage import idle_clocks
from stream_app.storage.layout import OutputLayout
from stream_app.storage.offsets import LayerOffset, parse
from tests.helpers import START_MS, app_settings, at, bronze_row, commit, plan, silver_row, value, write_layer

MINUTE = 60
FIRST = LayerOffset().as_json()


class Idle:
    """A feed whose clock goes on after five minutes; each reader is one of a query that was just started."""

    def __init__(self, feed: Feed, root: Path) -> None:
        time = feed.event_time.model_copy(update={"idle": timedelta(minutes=5)})
        self.flows = {flow.sink: flow for flow in flows([feed.model_copy(update={"event_time": time})], root)}
        self.root = root
        root.mkdir(exist_ok=True)

    def quiet(self, seconds: float) -> None:
        says = {"transactions.bronze": {"read_all_at": at(seconds).timestamp()}}
        OutputLayout(self.root).status.write_text(json.dumps({"flows": says}))

    def silver(self, batch: int, *seconds: float, last: int | None = None) -> None:
        rows = [silver_row(100 * batch + number, at_) for number, at_ in enumerate(seconds)]
        self.file = write_layer(self.flows["silver"], batch, rows, last).path
        plan(self.flows["silver"], batch, {**FIRST, "batch": batch})
        commit(self.flows["silver"], batch)

    def bronze(self, batch: int) -> None:
        write_layer(self.flows["bronze"], batch, [bronze_row(batch, value(batch))])

    def reader(self, sink: str = "gold") -> LayerReader:
        flow = self.flows[sink]
        assert flow.upstream
        idle = _idle(flow, trigger(self.root, "1 second"))
        return LayerReader(Options(flow.upstream.layout.output, flow.upstream.sink, None, 0, 2, 0, idle))

    def taken(self) -> Offset:
        """Where a query is that has taken all of silver."""
        end = self.reader().latestOffset(FIRST, ReadAllAvailable())
        assert "idle_clock" not in end, "what has rows comes first"
        return end


@pytest.fixture
def idle(feed: Feed, tmp_path: Path) -> Idle:
    return Idle(feed, tmp_path)


def trigger(root: Path, interval: str) -> Trigger:
    return app_settings(root, trigger_interval=interval).trigger


def went(offset: Offset) -> float | None:
    """How far, in seconds after START."""
    clock = offset.get("idle_clock")
    return None if clock is None else clock / 1e6 - START_MS / 1000


def step(reader: LayerReader, start: Offset) -> Offset:
    return reader.latestOffset(start, ReadAllAvailable())


def test_it_goes_on_when_it_is_due_and_again_after_that(idle: Idle) -> None:
    idle.silver(0, -50, -20, -40)
    start, reader = idle.taken(), idle.reader()
    assert step(reader, start) == start, "nobody has said that all is read"
    idle.quiet(1 + 5 * MINUTE - 1)
    assert step(reader, start) == start
    idle.quiet(1 + 5 * MINUTE)
    first = step(reader, start)
    assert first == start | {"idle_clock": int(at(5 * MINUTE - 20).timestamp() * 1e6)}
    assert parse(first) == LayerOffset(0, first["clock"], -1, first["idle_clock"])
    assert LayerOffset(0, first["clock"], -1, first["idle_clock"]).as_json() == first
    assert step(reader, first) == first, "the same moment is judged once"
    idle.quiet(1 + 10 * MINUTE - 1)
    assert step(reader, first) == first
    idle.quiet(1 + 10 * MINUTE)
    assert went(step(reader, first)) == 10 * MINUTE - 20


def test_a_restart_goes_on_from_silvers_newest_batch(idle: Idle) -> None:
    idle.silver(0, -10)
    start = idle.taken()
    idle.quiet(1 + 60 * MINUTE)  # the service was away for an hour; then bronze has found nothing
    assert went(step(idle.reader(), start)) == 60 * MINUTE - 10


def test_it_counts_from_the_newest_batch_and_the_newest_event_time_of_all(idle: Idle) -> None:
    idle.silver(0, 10, 2 * MINUTE)
    idle.silver(4 * MINUTE, 30)  # whose batch is the newest, with an older record; batch N is planned N seconds after
    start = idle.taken()
    idle.quiet(1 + 9 * MINUTE - 1)
    assert step(idle.reader(), start) == start
    idle.quiet(1 + 9 * MINUTE)
    assert went(step(idle.reader(), start)) == 7 * MINUTE


def test_it_is_never_ahead_of_our_clock(idle: Idle) -> None:
    idle.silver(0, 50)  # dated ahead of its batch
    start = idle.taken()
    idle.quiet(50 + 5 * MINUTE)
    assert went(step(idle.reader(), start)) == 50 + 5 * MINUTE


def test_it_waits_for_layers_that_are_behind(idle: Idle) -> None:
    idle.silver(0, -10)
    start = idle.taken()
    idle.bronze(1)
    idle.quiet(1 + 60 * MINUTE)
    reader = idle.reader()
    assert step(reader, start) == start, "silver has not taken batch 1 of bronze"
    plan(idle.flows["silver"], 1, {**FIRST, "batch": 1})
    assert step(reader, start) == start, "nor has it committed that"
    commit(idle.flows["silver"], 1)  # which had no valid record
    assert went(step(reader, start)) == 60 * MINUTE - 10
    idle.silver(2, 50)
    assert "idle_clock" not in step(idle.reader(), start)


def test_rows_that_come_while_it_looks_come_first(idle: Idle) -> None:
    """The files were listed before bronze and silver were asked."""
    idle.silver(0, -10)
    start, reader = idle.taken(), idle.reader()
    idle.quiet(1 + 60 * MINUTE)
    idle.silver(1, -20)
    assert reader._idle
    assert reader._idle.goes_to(0, 0) == 0
    assert step(idle.reader(), start)["batch"] == 1


def test_a_merged_file_tells_of_its_newest_batch_by_when_it_was_made(idle: Idle) -> None:
    idle.silver(0, 10, last=50)
    merged = at(3 * MINUTE).timestamp()
    os.utime(idle.file, (merged, merged))
    plan(idle.flows["silver"], 50, {**FIRST, "batch": 50})
    commit(idle.flows["silver"], 50)
    start = idle.taken()
    idle.quiet(8 * MINUTE - 1)
    assert step(idle.reader(), start) == start
    idle.quiet(8 * MINUTE)
    assert went(step(idle.reader(), start)) == 10 + 5 * MINUTE


def test_a_step_is_one_row_for_those_whose_clock_goes_on(idle: Idle, feed: Feed) -> None:
    idle.silver(0, -10)
    start = idle.taken()
    end = start | {"idle_clock": int(at(400).timestamp() * 1e6)}
    reader = idle.reader()
    (task,) = reader.partitions(start, end)
    assert list(reader.partitions(end, end)) == []
    (split,) = reader.read(task)
    (batch,) = rows_of(idle.flows["gold"]).read(iter([split]))
    (row,) = batch.to_pylist()
    assert {name: found for name, found in row.items() if found is not None} == {
        "event_time": at(400),
        "_idle_clock": at(400),
    }
    # a batch that was planned before the feed lost its `idle` has no row
    without = next(flow for flow in flows([feed], idle.root) if flow.sink == "gold")
    assert list(rows_of(without).read(iter([split]))) == []


def test_others_have_no_clock_of_their_own(idle: Idle, feed: Feed) -> None:
    running = trigger(idle.root, "1 second")
    clocked = [flow.sink for flow in idle.flows.values() if _idle(flow, running)]
    assert clocked == [flow.sink for flow in idle.flows.values() if flow.stateful]
    assert "gold" in clocked
    assert not any(_idle(flow, trigger(idle.root, "available-now")) for flow in idle.flows.values())
    assert not any(_idle(flow, running) for flow in flows([feed], idle.root))


def test_it_is_in_no_digest_and_no_plan(idle: Idle, feed: Feed) -> None:
    """So it may come and go without a reset."""
    for now in flows([feed], idle.root):
        with_it: Flow = idle.flows[now.sink]
        assert with_it.feed.verdict_digest() == now.feed.verdict_digest()
        assert (with_it.kind.shape, with_it.kind.depends_on) == (now.kind.shape, now.kind.depends_on)
        assert with_it.kind.state == now.kind.state
        assert with_it.kind.taken == now.kind.clocked == now.kind.taken
    assert FIRST == {"batch": -1, "clock": 0, "replay": -1}
    assert replace(LayerOffset(), batch=3).as_json() == {**FIRST, "batch": 3}


def test_merged_files_of_late_rows_tell_it_of_each_row(tmp_path: Path) -> None:
    made = []
    for number, clock in enumerate((0, 7, 9)):
        table = pa.table({"n": [number] * 2}).replace_schema_metadata(idle_clocks.pinned(clock))
        pq.write_table(table, tmp_path / str(number))
        made.append(pq.read_metadata(tmp_path / str(number)))
    assert [idle_clocks.of_rows(one).tolist() for one in made] == [[0, 0], [7, 7], [9, 9]]
    assert idle_clocks.merged(made[:1]) == {}
    pq.write_table(pa.table({"n": [0] * 6}).replace_schema_metadata(idle_clocks.merged(made)), tmp_path / "merged")
    assert idle_clocks.of_rows(pq.read_metadata(tmp_path / "merged")).tolist() == [0, 0, 7, 7, 9, 9]
