"""The event time goes on without a record: the last windows and sessions become final, by queries as they run."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession

from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.flows.flow import Flow
from stream_app.ops import views
from stream_app.settings import PROJECT
from stream_app.sinks.report import Report
from stream_app.storage.layout import OutputLayout
from stream_app.storage.offsets import in_layer
from tests.helpers import START, UNUSUAL, app_settings, at, silver_row, wait_until, write_planned
from tests.spark.conftest import Service
from tests.spark.session import pipeline_of

MINUTE = 60
IDLE = timedelta(minutes=5)


class Running(Service):
    """Queries that run on, beside a bronze that says when it had read all."""

    def quiet(self, seconds: float) -> None:
        """Bronze had read all of the topic at that time after START."""
        self.root.mkdir(parents=True, exist_ok=True)
        says = {f"{self.flows['bronze'].feed.name}.bronze": {"read_all_at": at(seconds).timestamp()}}
        OutputLayout(self.root).status.write_text(json.dumps({"flows": says}))

    def run(
        self, sink: str, until: Callable[[], object], after: Callable[[int], None] = lambda _: None
    ) -> list[Report]:
        """Run one flow until that is so; return what its batches did."""
        flow, batches = self.flows[sink], list[Report]()
        pipeline = pipeline_of(self.spark, app_settings(self.root, trigger_interval="1 second"))

        def write(frame: DataFrame, batch: int) -> None:
            batches.append(pipeline.write(flow, frame, batch))
            after(batch)

        query = pipeline.start(flow, write)

        def ended() -> object:
            if (error := query.exception()) is not None:
                raise error
            return until()

        try:
            wait_until(ended, 120)
            with suppress(StreamingQueryException):
                query.processAllAvailable()
        finally:
            query.stop()
        return batches


def with_idle(feed: Feed, **update: Any) -> Feed:
    event_time = feed.event_time.model_copy(update={"idle": IDLE, **update})
    return feed.model_copy(update={"event_time": event_time})


@pytest.fixture
def running(spark: SparkSession, feed: Feed, tmp_path: Path) -> Running:
    return Running(spark, with_idle(feed), tmp_path / UNUSUAL)


def went_to(flow: Flow) -> float:
    """How far the clock of the newest committed batch went without a record, in seconds after START."""
    committed = flow.checkpoint.last_committed()
    clock = in_layer(committed.end).idle_clock if committed else 0
    return clock / 1e6 - START.timestamp() if clock else 0


def watermark(flow: Flow) -> float:
    committed = flow.checkpoint.last_committed()
    return committed.watermark_ms / 1000 - START.timestamp() if committed else 0


def minutes(gold: Flow) -> list[int]:
    rows = views.connect([gold]).sql("SELECT window_start FROM gold ORDER BY 1").fetchall()
    return [int((start.astimezone(UTC) - START).total_seconds() // MINUTE) for (start,) in rows]


@pytest.mark.parametrize("column", ["event_time", "kafka_ts"])
def test_the_last_windows_become_final_without_a_record(
    spark: SparkSession, feed: Feed, tmp_path: Path, column: str
) -> None:
    running = Running(spark, with_idle(feed, field=column), tmp_path)
    gold = running.flows["gold"]
    write_planned(running.flows["silver"], 0, [silver_row(0, -120), silver_row(1, -90), silver_row(2, -30)])
    running.drain("gold")
    assert minutes(gold) == []
    running.quiet(1 + 6 * MINUTE)
    running.drain("gold")  # a drain does not wait for it
    assert went_to(gold) == 0
    # silver's batch was planned at 0, to a second
    reports = running.run("gold", lambda: watermark(gold) == MINUTE - 30)
    assert went_to(gold) == 6 * MINUTE - 30
    assert minutes(gold) == [-2, -2, -1]
    assert [report.rows_in for report in reports] == [0] * len(reports), "the row of the clock is no record"
    rows = views.connect([gold]).sql("SELECT sum(txn_count) FROM gold").fetchall()
    assert rows == [(3,)]
    running.quiet(1 + 11 * MINUTE)  # and again
    running.run("gold", lambda: watermark(gold) == 6 * MINUTE - 30)

    # a record that comes now is late by that clock; one that is newer goes on with it
    write_planned(running.flows["silver"], 1, [silver_row(3, 4 * MINUTE), silver_row(4, 20 * MINUTE)])
    running.run("gold", lambda: watermark(gold) == 15 * MINUTE)
    late = views.connect([gold]).sql('SELECT "offset" FROM late').fetchall()
    assert late == [(3,)]
    assert minutes(gold) == [-2, -2, -1]
    assert went_to(gold) == 11 * MINUTE - 30
    (file,) = gold.layout.late.glob("*.parquet")
    assert (pq.read_metadata(file).metadata or {})[b"idle_clock"] == json.dumps(
        [[None, int(at(11 * MINUTE - 30).timestamp() * 1e6)]]
    ).encode()


def test_a_step_that_runs_again_is_the_same(running: Running) -> None:
    """Though more time has passed, and be it that the feed has lost its `idle` meanwhile."""
    gold = running.flows["gold"]
    write_planned(running.flows["silver"], 0, [silver_row(0, -60), silver_row(1, -30)])
    running.drain("gold")
    running.quiet(1 + 7 * MINUTE)

    def die(_: int) -> None:
        raise RuntimeError("kill -9")

    with pytest.raises(StreamingQueryException):
        running.run("gold", lambda: False, after=die)
    step = gold.checkpoint.last_planned()
    assert step is not None
    assert in_layer(step.end).idle_clock / 1e6 == at(7 * MINUTE - 30).timestamp()
    planned = gold.checkpoint.entry(step.batch_id)
    before = planned.read_text()
    running.quiet(1 + 9 * MINUTE)
    running.run("gold", lambda: watermark(gold) == 2 * MINUTE - 30)
    assert planned.read_text() == before
    assert minutes(gold) == [-1, -1]

    running.quiet(1 + 20 * MINUTE)
    with pytest.raises(StreamingQueryException):
        running.run("gold", lambda: False, after=die)
    without = Running(running.spark, load_feeds(PROJECT / "conf" / "feeds", ["transactions"])[0], running.root)
    write_planned(running.flows["silver"], 1, [silver_row(2, 3 * MINUTE), silver_row(3, 30 * MINUTE)])
    without.run("gold", lambda: watermark(gold) == 25 * MINUTE)
    assert minutes(gold) == [-1, -1, 3]
    assert views.connect([gold]).sql('SELECT "offset" FROM late').fetchall() == []


def test_a_record_that_is_filtered_away_moves_no_clock_and_the_clock_goes_on(
    spark: SparkSession, feed: Feed, tmp_path: Path
) -> None:
    gold = feed.windows["gold"].model_copy(update={"where": {"status": "approved"}})
    running = Running(spark, with_idle(feed).model_copy(update={"windows": {"gold": gold}}), tmp_path)
    flow = running.flows["gold"]
    rows = [silver_row(0, -120), silver_row(1, -MINUTE, status="declined"), silver_row(2, -100)]
    write_planned(running.flows["silver"], 0, rows)
    running.drain("gold")
    assert watermark(flow) == -100 - 5 * MINUTE
    running.quiet(1 + 6 * MINUTE)
    running.run("gold", lambda: watermark(flow) == 0)
    assert minutes(flow) == [-2, -2]


def test_the_last_sessions_become_final_without_a_record(spark: SparkSession, tmp_path: Path) -> None:
    feed = with_idle(load_feeds(PROJECT / "conf" / "feeds", ["user_activity"])[0])
    running = Running(spark, feed, tmp_path)
    flow = running.flows["user_sessions"]
    rows = [
        {
            **{"event_id": f"e{number}", "user_id": "u", "event_type": "click", "page_url": "/", "session_id": "a"},
            **{
                "event_time": at(30 * number - 60),
                "device": "mobile",
                "country": "DE",
                "kafka_ts": at(30 * number - 60),
            },
            **{"topic": "user_activity", "partition": 0, "offset": number},
        }
        for number in range(3)
    ]
    write_planned(running.flows["silver"], 0, rows)
    running.drain("user_sessions")
    running.quiet(1 + 17 * MINUTE)
    running.run("user_sessions", lambda: watermark(flow) == 15 * MINUTE)
    running.quiet(1 + 40 * MINUTE)  # nor has the row of the clock become a session by then
    running.run("user_sessions", lambda: watermark(flow) == 38 * MINUTE)
    sessions = views.connect([flow]).sql("SELECT session_id, events, outcome FROM user_sessions").fetchall()
    assert sessions == [("a", 3, "timed_out")]
