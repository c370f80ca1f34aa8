"""Sessions as Spark runs them: files of silver in, a file a batch out, through state, timers and restarts."""

import random
import shutil
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.stateful_processor import StatefulProcessorHandle

from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.feeds.sql import text
from stream_app.flows.flow import Flow
from stream_app.layers import recompute
from stream_app.layers import session_state as layer
from stream_app.layers.runs import Runs
from stream_app.layers.session_state import sessions
from stream_app.ops import views
from stream_app.settings import PROJECT
from stream_app.sources.layer import read_layer
from stream_app.sources.split_rows import Rows
from stream_app.storage.batch_files import data_paths
from tests.helpers import Row, app_settings, at, write_planned
from tests.spark.conftest import Service

GAP = 15 * 60
Session = tuple[str, float, float, int, str]
"""Of the view: session_id, session_start and session_end in seconds after START, events, outcome."""


@pytest.fixture
def feed() -> Feed:
    """The shipped feed."""
    return load_feeds(PROJECT / "conf" / "feeds", ["user_activity"])[0]


class Activity:
    """Silver's files of user activity, and what became of them."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.flow = service.flows["user_sessions"]
        self._silver = service.flows["silver"]
        self._batches = self._records = 0

    def write(self, *records: tuple[str, float, str] | tuple[str, float]) -> None:
        """One file of silver, of (session_id, seconds after START, event type if it is no click)."""
        write_planned(self._silver, self._batches, [self._row(*record) for record in records])
        self._batches += 1

    def drain(self, *records: tuple[str, float, str] | tuple[str, float], **settings: Any) -> list[Session]:
        """Write the file, let Spark read it, and return all sessions that stand then."""
        self.write(*records)
        self.service.drain("user_sessions", **settings)
        return self.found()

    def found(self) -> list[Session]:
        columns = "session_id, epoch(session_start) - {0}, epoch(session_end) - {0}, events, outcome"
        sql = f"SELECT {columns.format(at(0).timestamp())} FROM {self.flow.sink} ORDER BY ALL"
        return views.connect([self.flow]).sql(sql).fetchall()

    def late(self) -> list[tuple[str, int]]:
        sql = f'SELECT session_id, "offset" FROM {self.flow.layout.late_name} ORDER BY ALL'
        return views.connect([self.flow]).sql(sql).fetchall()

    def expected(self) -> list[tuple[Any, ...]]:
        """What DuckDB makes of the same files."""
        planned = self.flow.checkpoint.last_committed()
        assert planned is not None
        rows = f'(({views.select(self._silver)}) ANTI JOIN ({views.select_late(self.flow)}) USING ("offset"))'
        sql = recompute.sessions(self.flow.feed.sessions[self.flow.kind.name], "event_time", rows, planned.watermark_ms)
        return duckdb.sql(f"{sql} ORDER BY ALL").fetchall()

    def _row(self, session: str, seconds: float, event_type: str = "click") -> Row:
        number, self._records = self._records, self._records + 1
        fields = {"event_id": f"e{number}", "user_id": f"user of {session}", "event_type": event_type, "page_url": "/"}
        more = {"session_id": session, "event_time": at(seconds), "device": "mobile", "country": "DE"}
        place = {"kafka_ts": at(seconds), "topic": "user_activity", "partition": 0, "offset": number}
        return fields | more | place


@pytest.fixture
def activity(service: Service) -> Activity:
    return Activity(service)


START, END = "session_start", "session_end"


def test_the_columns_are_those_of_the_view(activity: Activity) -> None:
    before = views.connect([activity.flow]).sql("SELECT * FROM user_sessions")
    promised = list(zip(before.columns, map(str, before.types), strict=True))
    activity.drain(("a", 0, START), ("a", 90.25, END), ("b", 500))
    after = views.connect([activity.flow]).sql("SELECT * FROM user_sessions")
    assert list(zip(after.columns, map(str, after.types), strict=True)) == promised
    assert after.fetchall() == [("a", "user of a", at(0), at(90.25), 90.25, 2, "ended")]


def test_a_session_that_is_ended_and_one_that_is_just_left(activity: Activity) -> None:
    """Final once the watermark, two minutes behind the newest record of the batches before, has reached them."""
    activity.write(("a", 0, START), ("a", 30), ("a", 60, END), ("b", 10, START), ("b", 50))
    for newest in (60 + 119.999, 60 + 120, 50 + GAP + 119, 50 + GAP + 120):
        activity.write(("x", newest))
    activity.service.drain("user_sessions", max_offsets_per_trigger=1)
    assert activity.found() == [("a", 0, 60, 3, "ended"), ("b", 10, 50, 2, "timed_out")]
    assert list(rows_by_batch(activity.flow)) == [3, 5]
    assert activity.late() == []


def test_a_session_over_several_batches_and_restarts(activity: Activity) -> None:
    """Each drain is a start of its own: the state and its timers come from the checkpoint."""
    for second in (0, 150, 300):
        assert activity.drain(("a", second), ("a", second + 20)) == []
    assert activity.drain(("a", 500, END), ("x", 800)) == [("a", 0, 500, 7, "ended")]


@pytest.mark.proves("Late rows are kept", "sessions")
def test_a_late_record_counts_until_the_watermark_has_passed_it(activity: Activity) -> None:
    activity.drain(("a", 100, START), ("a", 200))
    # the watermark is at 80: 150 still counts, 80 does not, and the end may be older than what came before it
    assert activity.drain(("a", 150), ("a", 80), ("a", 210), ("a", 205, END)) == []
    assert activity.drain(("x", 2000)) == [("a", 100, 205, 4, "ended"), ("a", 210, 210, 1, "timed_out")]
    assert activity.late() == [("a", 3)]


def test_what_comes_after_the_end_is_a_session_of_its_own(activity: Activity) -> None:
    found = activity.drain(("a", 0), ("a", 10, END), ("a", 20), ("a", 20 + GAP), ("a", 21 + 2 * GAP), ("x", 9000))
    assert found == [
        ("a", 0, 10, 2, "ended"),
        ("a", 20, 20 + GAP, 2, "timed_out"),
        ("a", 21 + 2 * GAP, 21 + 2 * GAP, 1, "timed_out"),
    ]
    assert activity.drain(("a", 9000), ("a", 9001, END), ("x", 20000))[3:] == [
        ("a", 9000, 9001, 2, "ended"),
        ("x", 9000, 9000, 1, "timed_out"),
    ]


def rows_by_batch(flow: Flow) -> dict[int, list[Any]]:
    return {file.first: duckdb.sql(f"FROM {text(file.path)} ORDER BY ALL").fetchall() for file in flow.files()}


def random_activity(activity: Activity, seed: int, batches: int) -> None:
    rng = random.Random(seed)
    for batch in range(batches):
        kinds = [(f"s{rng.randrange(30)}", batch * 400 + rng.randint(-600, 400), rng.random() < 0.2) for _ in range(25)]
        activity.write(*((name, second, END if ended else "click") for name, second, ended in kinds))


def test_duckdb_finds_the_same_sessions_in_the_same_files(activity: Activity) -> None:
    random_activity(activity, 1, 12)
    activity.service.drain("user_sessions", max_offsets_per_trigger=25)
    expected = activity.expected()
    stands = views.connect([activity.flow]).sql("SELECT * FROM user_sessions ORDER BY ALL").fetchall()
    assert stands == expected
    assert len(expected) > 20
    assert {row[-1] for row in expected} == {"ended", "timed_out"}
    assert len(activity.late()) > 5


def test_a_batch_that_is_run_again_makes_the_same_rows(activity: Activity) -> None:
    """As after a death between the rows and the commit: Spark runs the last batch again, on the state before it."""
    random_activity(activity, 3, 6)
    activity.service.drain("user_sessions", max_offsets_per_trigger=25)
    before, commits = rows_by_batch(activity.flow), activity.flow.checkpoint.path / "commits"
    newest = max(int(path.name) for path in commits.iterdir() if path.name.isdigit())
    for path in data_paths(activity.flow.layout.output):
        if path.stem.endswith(f"{newest:010d}"):
            path.unlink()
    (activity.flow.checkpoint.path / "last_file").unlink()
    assert rows_by_batch(activity.flow) != before, "the batch had rows"
    for name in (str(newest), f".{newest}.crc"):
        (commits / name).unlink(missing_ok=True)
    activity.service.drain("user_sessions", max_offsets_per_trigger=25)
    assert rows_by_batch(activity.flow) == before


class Before(layer._Sessions):
    """The processor of commit c6c8daf, whose state had one variable."""

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._handle = handle
        schema = "first long, last long, events long, times array<long>, ends array<long>, wake_ms long"
        self._state = handle.getValueState("open", schema)
        self._runs = Runs({}, most_alone=sys.maxsize)  # so that there are none


@pytest.mark.faults
def test_a_long_session_goes_on_from_a_checkpoint_of_before(
    activity: Activity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It becomes runs with the first record that comes; they outlive restarts and are divided by an end."""
    with monkeypatch.context() as patch:
        patch.setattr(layer, "_Sessions", Before)
        activity.drain(*(("a", n / 100) for n in range(3_000)), ("b", 7))
    assert activity.drain(("a", 9.995), ("b", 8)) == []
    assert activity.drain(*(("a", 30 + n / 100) for n in range(2_500))) == []
    assert activity.drain(("a", 20.005, END), ("a", 20.005)) == []
    found = activity.drain(("x", 5000), ("x", 9000)) + activity.drain(("x", 9001))
    assert activity.expected() == views.connect([activity.flow]).sql("FROM user_sessions ORDER BY ALL").fetchall()
    assert {(name, *rest) for name, _, _, *rest in found} >= {("a", 2_004, "ended"), ("a", 3_499, "timed_out")}


@pytest.mark.faults
@pytest.mark.proves("Sessions are cut by event time")
def test_the_order_of_records_within_a_batch_makes_no_difference(
    spark: SparkSession, feed: Feed, activity: Activity, tmp_path: Path
) -> None:
    random_activity(activity, 4, 5)
    other = Service(spark, feed, tmp_path / "other")
    shutil.copytree(activity.service.flows["silver"].layout.output, other.flows["silver"].layout.output)
    for path in data_paths(other.flows["silver"].layout.output):
        duckdb.sql(
            f'COPY (SELECT * FROM {text(path)} ORDER BY hash("offset")) TO {text(f"{path}.new")} (FORMAT parquet)'
        )
        Path(f"{path}.new").replace(path)
    for service in (activity.service, other):
        service.drain("user_sessions", max_offsets_per_trigger=25)
    first, second = (rows_by_batch(s.flows["user_sessions"]) for s in (activity.service, other))
    assert first == second
    assert sum(map(len, first.values())) > 5


@pytest.mark.faults
def test_fresh_rows_take_the_place_of_what_is_not_final(spark: SparkSession, feed: Feed, activity: Activity) -> None:
    """A table with the rule that layers/sessions.py states ends as the files do, and shows open sessions meanwhile."""
    random_activity(activity, 5, 8)
    activity.service.drain("user_sessions", max_offsets_per_trigger=25)
    kept: list[Any] = []
    seen: list[int] = []

    def replace(frame: DataFrame, _batch: int) -> None:
        new = frame.collect()
        changed = {(row.session_id, row.user_id) for row in new}
        kept[:] = [row for row in kept if row.final or (row.session_id, row.user_id) not in changed] + new
        seen.append(len(new))

    own = app_settings(activity.service.root, max_offsets_per_trigger=25)
    rows = Rows.of(activity.flow.kind, None).frame(read_layer(spark, activity.flow, own.trigger))
    frame = sessions(rows, feed, activity.flow.feed.sessions[activity.flow.kind.name], fresh=True)
    checkpoint = str(activity.service.root / "checkpoint of a table")
    writer = frame.writeStream.outputMode("update").option("checkpointLocation", checkpoint)
    query = writer.foreachBatch(replace).start()
    try:
        query.processAllAvailable()
    finally:
        query.stop()
    stands = views.connect([activity.flow]).sql("FROM user_sessions ORDER BY ALL").fetchall()
    assert frame.columns == [field.name for field in spark.read.parquet(str(activity.flow.layout.output)).schema] + [
        "final"
    ]
    final = [row for row in kept if row.final]
    assert sorted(tuple(row[:2]) + tuple(row[4:-1]) for row in final) == sorted(row[:2] + row[4:] for row in stands)
    assert len({row[:3] for row in kept}) == len(kept) > len(final) > 5
    assert sum(seen) > len(kept)
