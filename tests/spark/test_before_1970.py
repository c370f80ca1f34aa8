"""Rows from before 1970, where Spark's watermark begins: counted, or late with the windows that they missed."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.flows.flow import Flow
from stream_app.layers import recompute
from stream_app.ops import views
from stream_app.settings import PROJECT
from stream_app.sinks.registry import flows
from tests.helpers import Row, write_planned
from tests.spark.conftest import Service

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = 3600
# Seconds since the epoch, a list a batch. The watermark, two minutes behind, is 0 until the fourth.
YEAR = 365 * 24 * HOUR
BATCHES = [
    [-1.0, -5.25 * YEAR, 30.0],
    [-5.0 * YEAR, -90.5],
    [-60.0, 600.0],
    [-30.0, 300.0],
    [float(HOUR)],
]


@pytest.fixture(scope="module")
def feed() -> Feed:
    return load_feeds(PROJECT / "conf" / "feeds", ["user_activity"])[0]


def row(number: int, seconds: float) -> Row:
    fields = {"event_id": f"e{number}", "user_id": f"u{number}", "event_type": "page_view", "page_url": "/"}
    time = EPOCH + timedelta(seconds=seconds)
    more = {"session_id": f"s{number}", "event_time": time, "device": "mobile", "country": "DE"}
    return fields | more | {"kafka_ts": time, "topic": "user_activity", "partition": 0, "offset": number}


def windows_of(flow: Flow, seconds: float) -> list[datetime]:
    """The starts of the windows that hold a time, by Python's own calendar."""
    every, length = flow.feed.windows[flow.kind.name].every, flow.feed.windows[flow.kind.name].window
    newest = EPOCH + (timedelta(seconds=seconds) // every) * every
    return [newest - i * every for i in range(length // every)]


@pytest.mark.faults
@pytest.mark.proves("Late rows are kept", "windows")
def test_every_row_is_counted_or_late_and_never_neither(service: Service) -> None:
    silver = service.flows["silver"]
    times = [seconds for batch in BATCHES for seconds in batch]
    for batch, own in enumerate(BATCHES):
        first = sum(map(len, BATCHES[:batch]))
        write_planned(silver, batch, [row(first + n, seconds) for n, seconds in enumerate(own)])
    for flow in flows([silver.feed], service.root):
        if not (flow.is_own and flow.stateful):
            continue
        service.flows[flow.sink] = flow
        written = service.drain(flow.sink, max_offsets_per_trigger=1)
        database = views.connect([silver, flow])
        planned = flow.checkpoint.last_committed()
        assert planned is not None and planned.watermark_ms == (HOUR - 120) * 1000
        late = database.sql(f'SELECT * FROM {flow.layout.late_name} ORDER BY "offset"').to_arrow_table().to_pylist()
        assert sum(batch.counters["late"] for batch in written) == len(late)
        if flow.kind.name in flow.feed.windows:
            missed = {(one["offset"], one["window_start"]) for one in late}
            all_windows = {(n, start) for n, at in enumerate(times) for start in windows_of(flow, at)}
            assert missed <= all_windows
            before = {
                (n, start) for n, start in all_windows if start + flow.feed.windows[flow.kind.name].window <= EPOCH
            }
            assert before <= missed, "Spark's watermark is 1970 from the first batch on"
            final = planned.watermark_ms / 1000
            counted = Counter(
                start
                for _, start in all_windows - missed
                if start + flow.feed.windows[flow.kind.name].window <= EPOCH + timedelta(seconds=final)
            )
            measure = next(iter(flow.feed.windows[flow.kind.name].measures))
            assert dict(database.sql(f"SELECT window_start, {measure} FROM {flow.sink}").fetchall()) == counted
            expected = recompute.windows(
                flow.feed.windows[flow.kind.name], "event_time", "silver", flow.layout.late_name, final
            )
        else:
            rows = f'(FROM silver ANTI JOIN {flow.layout.late_name} USING ("offset"))'
            assert [n for n, at in enumerate(times) if at <= 0] == [one["offset"] for one in late]
            expected = recompute.sessions(flow.feed.sessions[flow.kind.name], "event_time", rows, planned.watermark_ms)
        found = database.sql(f"SELECT * FROM {flow.sink} ORDER BY ALL").fetchall()
        assert found == database.sql(f"SELECT * FROM ({expected}) ORDER BY ALL").fetchall()
        assert found
