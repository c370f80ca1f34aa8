"""A lake has a folder a date, for dates near the batch's own time; all others share one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.admission.declared import noted
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.feeds.sinks import SinkTable
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.ops import views
from stream_app.settings import PROJECT
from stream_app.sinks.lake import LakeSink
from stream_app.sinks.protocol import sink_of
from stream_app.storage.offsets import LayerOffset
from tests.helpers import START_MS, flow_of

SHIPPED = load_feeds(PROJECT / "conf" / "feeds", ["user_activity"])[0]
DAY = 86_400_000_000
FIRST, LAST = (int(pd.Timestamp(year, 1, 1).timestamp()) * 1_000_000 for year in (1700, 2250))
OTHER = "event_date=0001-01-01"


def lake(root: Path, days: int = 400, tolerance: timedelta = timedelta(minutes=1)) -> Flow:
    time = SHIPPED.event_time.model_copy(update={"future_tolerance": tolerance})
    sinks = {"lake": SinkTable.model_validate({"of": "silver", "to": "lake", "dates": f"{days} days"})}
    return flow_of(SHIPPED.model_copy(update={"sinks": sinks, "event_time": time}), "lake", root)


def divided(flow: Flow, micros: list[int], planned_ms: int = START_MS) -> dict[str, list[int]]:
    """The times in each folder, of a batch in pieces."""
    column = pa.array(micros, pa.int64()).cast(pa.timestamp("us", "UTC"))
    table = pa.table({"event_time": column, "n": range(len(micros))})
    batch = Batch(0, planned_ms, 0, 0, LayerOffset(), LayerOffset(), ())
    found: dict[str, list[int]] = {}
    for folder, rows in LakeSink.model_validate(flow.to).divided(flow.kind, batch)(
        iter(table.to_batches(max_chunksize=7))
    ):
        assert folder not in found
        found[folder] = [time for piece in rows for time in piece["event_time"].cast(pa.int64()).to_pylist()]
    return found


def date(micros: int) -> str:
    return f"event_date={(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).date()}"


@given(
    st.lists(st.one_of(st.integers(FIRST, LAST), st.integers(START_MS * 1000 - 9 * DAY, START_MS * 1000 + 9 * DAY))),
    st.integers(1, 5),
    st.integers(0, 9),
)
@pytest.mark.proves("A lake has each row exactly once")
def test_each_row_is_in_one_folder_its_dates_or_the_one_for_others(micros: list[int], days: int, ahead: int) -> None:
    flow = lake(Path(), days, timedelta(days=ahead))
    found = divided(flow, micros)
    assert Counter(time for times in found.values() for time in times) == Counter(micros)
    today = START_MS * 1000 // DAY
    for folder, times in found.items():
        for time in times:
            is_near = today - days <= time // DAY <= today + min(ahead, days) + 1
            assert folder == (date(time) if is_near else OTHER)
    assert divided(flow, micros) == found


@pytest.mark.parametrize("future", [False, True])
def test_a_client_that_sends_every_date_makes_no_more_folders_than_the_span_has(future: bool) -> None:
    sign = 1 if future else -1
    micros = [START_MS * 1000 + sign * day * DAY for day in range(5_000)]
    flow = lake(Path(), tolerance=timedelta(days=999_999) if future else timedelta(minutes=1))
    found = divided(flow, micros)
    assert len(found) <= 403
    assert len(found[OTHER]) >= 4_597
    assert date(START_MS * 1000) in found


def test_the_span_can_be_declared(tmp_path: Path) -> None:
    text = (PROJECT / "conf" / "feeds" / "user_activity.toml").read_text()
    assert lake_of(SHIPPED).dates == timedelta(days=400)
    (tmp_path / "other.toml").write_text(text.replace('to = "lake"', 'to = "lake"\ndates = "7 days"'))
    assert lake_of(load_feeds(tmp_path, ["other"])[0]).dates == timedelta(days=7)


def by(column: str) -> Flow:
    sink = {"of": "silver", "to": "lake", "partition_by": column}
    return flow_of(SHIPPED.model_copy(update={"sinks": {"lake": SinkTable.model_validate(sink)}}), "lake", Path("x"))


def test_the_folders_may_be_by_another_time() -> None:
    flow = by("date(kafka_ts)")
    near, far = START_MS * 1000, START_MS * 1000 - 4_000 * DAY
    times = {
        name: pa.array(micros, pa.int64()).cast(pa.timestamp("us", "UTC"))
        for name, micros in {"event_time": [far, near, near], "kafka_ts": [near, far, None]}.items()
    }
    batch = Batch(0, START_MS, 0, 0, LayerOffset(), LayerOffset(), ())
    found = LakeSink.model_validate(flow.to).divided(flow.kind, batch)(iter(pa.table(times).to_batches()))
    assert {folder: sum(piece.num_rows for piece in rows) for folder, rows in found} == {date(near): 1, OTHER: 2}
    assert "CAST(kafka_ts AT" in str(sink_of(flow).select(flow, (), Path)).replace('"', "")


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        ("country", '"country" is not date(<a time>)'),
        ("date(country)", '"country" is not a time of silver'),
        ("date(nothing)", '"nothing" is not a time of silver'),
    ],
)
def test_what_is_no_date_of_a_time_is_refused(column: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"sinks.lake.partition_by: {problem}")):
        by(column)


def test_another_time_asks_for_a_reset() -> None:
    """Rows that are there are in the folders of the time before."""
    own, other = noted(by("date(event_time)"))["depends_on"], noted(by("date(kafka_ts)"))["depends_on"]
    assert (own, other) == ({"time": "event_time"}, {"time": "kafka_ts"})


def lake_of(feed: Feed) -> LakeSink:
    return LakeSink.model_validate(flow_of(feed, "lake", Path()).to)


@pytest.fixture
def written(tmp_path: Path) -> Flow:
    """A lake with a folder of a date and the one for others."""
    flow = lake(tmp_path)
    row = dict.fromkeys(flow.feed.fields, "x") | {"topic": "t", "partition": 0, "offset": 1}
    for at in (START_MS * 1000, START_MS * 1000 - 4_000 * DAY):
        time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
        (folder,) = divided(flow, [at])
        path = flow.layout.output / folder / "lake_20261121_010000_0000000000.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([row | {"event_time": time, "kafka_ts": time}]), path)
    return flow


def readings(folder: Path) -> Iterator[list[str]]:
    """The dates of the rows, by each reader."""
    yield [str(row[0]) for row in duckdb.sql(f"SELECT event_date FROM '{folder}/*/*.parquet' ORDER BY 1").fetchall()]
    yield sorted(map(str, pd.read_parquet(folder)["event_date"]))
    yield sorted(map(str, ds.dataset(folder, partitioning="hive").to_table()["event_date"].to_pylist()))


def test_every_reader_reads_all_of_it(written: Flow) -> None:
    expected = ["0001-01-01", date(START_MS * 1000).removeprefix("event_date=")]
    assert list(readings(written.layout.output)) == [expected] * 3
    found = views.connect([written]).sql("SELECT event_date FROM lake ORDER BY 1")
    assert [str(kind) for kind in found.types] == ["DATE"]
    own = date(START_MS * 1000 - 4_000 * DAY).removeprefix("event_date=")
    assert [str(row[0]) for row in found.fetchall()] == [own, expected[1]], "make query tells the true date"


def test_a_span_of_dates_is_a_duration() -> None:
    with pytest.raises(ValueError, match=r"dates\n.*5 is not a duration"):
        LakeSink.model_validate({"of": "silver", "to": "lake", "dates": 5})
