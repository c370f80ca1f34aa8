"""A session is a function of the records that came in time, whatever their order and their batches."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.errors import ConfigError
from stream_app.feeds import schema
from stream_app.feeds.load import load_feeds
from stream_app.feeds.parts import Session
from stream_app.flows.flow import Flow
from stream_app.layers import recompute
from stream_app.layers.session_state import Found, OpenSessions, settle
from stream_app.settings import PROJECT
from stream_app.sinks.registry import flows
from stream_app.storage.batch_files import batch_file
from tests.examples import examples
from tests.helpers import START_MS, Row, at, claim, commit, flow_of, plan, reconciled, write_layer
from tests.unit.conftest import Cli

SECOND = 1_000_000
GAP = 10 * SECOND
DELAY_MS = 4_000
Record = tuple[int, bool]


def click(seconds: float) -> Record:
    return int(seconds * SECOND), False


def end(seconds: float) -> Record:
    return int(seconds * SECOND), True


def at_once(records: Sequence[Record], watermark: float) -> tuple[list[Found], list[Found], OpenSessions | None]:
    return settle(None, records, int(watermark * SECOND), GAP)


def found(first: float, last: float, events: int, ended: bool) -> Found:
    return Found(int(first * SECOND), int(last * SECOND), events, ended)


def test_an_end_is_final_once_the_watermark_has_reached_it() -> None:
    records = [click(1), click(2), end(3)]
    final, still_open, kept = at_once(records, 2.999)
    assert (final, still_open) == ([], [found(1, 3, 3, True)])
    assert kept is not None
    assert kept.wake_ms == 3_000
    assert at_once(records, 3) == ([found(1, 3, 3, True)], [], None)


def test_a_pause_is_final_after_the_gap() -> None:
    final, still_open, kept = at_once([click(1), click(2.0005)], 12)
    assert (final, still_open) == ([], [found(1, 2.0005, 2, False)])
    assert kept is not None
    assert kept.wake_ms == 12_001, "timers are in milliseconds, and must not come too early"
    assert at_once([click(1), click(2.0005)], 12.001) == ([found(1, 2.0005, 2, False)], [], None)


@pytest.mark.parametrize(
    ("records", "expected"),
    {
        "a pause of just the gap": ([click(0), click(10)], [found(0, 10, 2, False)]),
        "a longer one": ([click(0), click(10.000001)], [found(0, 0, 1, False), found(10.000001, 10.000001, 1, False)]),
        "after an end": ([click(0), end(1), click(1.5)], [found(0, 1, 2, True), found(1.5, 1.5, 1, False)]),
        "with an end": ([end(1), click(1), click(0)], [found(0, 1, 3, True)]),
        "two ends": ([click(0), end(1), end(2)], [found(0, 1, 2, True), found(2, 2, 1, True)]),
        "an end twice at once": ([click(0), end(1), end(1)], [found(0, 1, 3, True)]),
        "an end alone": ([end(1)], [found(1, 1, 1, True)]),
    }.values(),
)
def test_where_a_session_ends_and_the_next_one_begins(records: list[Record], expected: list[Found]) -> None:
    assert at_once(records, 60)[0] == expected
    assert at_once(records, -60)[1] == expected


def test_a_late_end_divides_what_was_one_session() -> None:
    _, still_open, kept = at_once([click(1), click(3), click(4)], 1)
    assert still_open == [found(1, 4, 3, False)]
    final, still_open, _ = settle(kept, [end(2)], 2 * SECOND, GAP)
    assert (final, still_open) == ([found(1, 2, 2, True)], [found(3, 4, 2, False)])


def test_a_long_session_is_kept_as_a_sum() -> None:
    """What no end can divide any more needs no place of its own."""
    kept: OpenSessions | None = None
    for second in range(1_000):
        _, _, kept = settle(kept, [click(second)], max(0, second - 4) * SECOND, GAP)
    assert kept is not None
    assert kept.settled == found(0, 995, 996, False)
    assert len(kept.times) == 4


SESSION = Session.model_validate(
    {
        "keys": ("session_id", "user_id"),
        "ends": {"event_type": "session_end"},
        "gap": "10 seconds",
        "watermark": "4 seconds",
    }
)
RECORDS = st.tuples(st.integers(0, 400), st.integers(0, 999_999), st.sampled_from([False, False, False, True]))
BATCHES = st.lists(st.lists(RECORDS, max_size=6), min_size=1, max_size=12)


@examples(150)
@given(batches=BATCHES)
@pytest.mark.proves("Sessions are cut by event time")
def test_batches_make_no_difference_and_duckdb_finds_the_same(batches: list[list[tuple[int, int, bool]]]) -> None:
    """As Spark runs it: late by the watermark of the batch before, at first 1970; final by this one's, a batch late."""
    kept, late_by, watermark_ms, newest = None, 0, 0, 0
    found: list[Found] = []
    counted: list[Record] = []
    for batch in [*batches, []]:
        new = [(tenths * 100_000 + micros, is_end) for tenths, micros, is_end in batch]
        in_time = [record for record in new if record[0] > late_by]
        final, _, kept = settle(kept, in_time, watermark_ms * 1000, GAP)
        found, counted = found + final, counted + in_time
        late_by = watermark_ms * 1000
        newest = max([newest, *(time for time, _ in new)])
        final_ms, watermark_ms = watermark_ms, max(watermark_ms, newest // 1000 - DELAY_MS)
    assert found == settle(None, counted, final_ms * 1000, GAP)[0]
    assert sorted(found) == expected(counted, final_ms)


def expected(records: list[Record], watermark_ms: int) -> list[Found]:
    with duckdb.connect() as db:
        db.execute("CREATE TABLE rows (session_id TEXT, user_id TEXT, event_time TIMESTAMPTZ, event_type TEXT)")
        for time, is_end in records:
            row = ["s", "u", at(0) + timedelta(microseconds=time), "session_end" if is_end else "click"]
            db.execute("INSERT INTO rows VALUES (?, ?, ?, ?)", row)
        sql = recompute.sessions(SESSION, "event_time", "rows", START_MS + watermark_ms)
        columns = "epoch_us(session_start), epoch_us(session_end), events, outcome, duration_seconds"
        rows = db.execute(f"SELECT {columns} FROM ({sql}) ORDER BY 1").fetchall()
    assert all(seconds == (last - first) / 1e6 for first, last, _, _, seconds in rows)
    start = START_MS * 1000
    return [Found(first - start, last - start, n, outcome == "ended") for first, last, n, outcome, _ in rows]


@pytest.fixture
def flow(tmp_path: Path) -> Flow:
    """Silver with two sessions of one batch, one of them open, and a record too late; the final one stands in gold."""
    made = {flow.sink: flow for flow in flows(load_feeds(PROJECT / "conf" / "feeds", ["user_activity"]), tmp_path)}
    records = [("a", 0, "click"), ("a", 60.5, "session_end"), ("b", 200, "click"), ("a", -900, "click")]
    write_layer(made["silver"], 0, [silver_row(n, *record) for n, record in enumerate(records)])
    flow = made["user_sessions"]
    plan(flow, 0, {"batch": 0}, watermark_ms=START_MS + 80_000)
    commit(flow, 0)
    write_sessions(flow, [SOUND])
    write_file(
        flow.layout.late,
        flow.layout.late_name,
        [silver_row(3, *records[3])],
        to_arrow_schema(schema.silver(flow.feed), timezone="UTC"),
    )
    return flow


SOUND = {
    "session_id": "a",
    "user_id": "user of a",
    "session_start": at(0),
    "session_end": at(60.5),
    "duration_seconds": 60.5,
    "events": 2,
    "outcome": "ended",
}


def silver_row(offset: int, session: str, seconds: float, event_type: str) -> Row:
    fields = {"event_id": f"e{offset}", "user_id": f"user of {session}", "event_type": event_type, "page_url": "/"}
    more = {"session_id": session, "event_time": at(seconds), "device": "mobile", "country": "DE"}
    return fields | more | {"kafka_ts": at(seconds), "topic": "user_activity", "partition": 0, "offset": offset}


def write_sessions(flow: Flow, rows: list[Row]) -> None:
    time = pa.timestamp("us", "UTC")
    types = [pa.string(), pa.string(), time, time, pa.float64(), pa.int64(), pa.string()]
    write_file(flow.layout.output, flow.sink, rows, pa.schema(zip(SOUND, types, strict=True)))


def write_file(folder: Path, prefix: str, rows: list[Row], columns: pa.Schema) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, columns), batch_file(folder, prefix, "parquet", START_MS, 0).path)


def wrong(flow: Flow) -> list[str]:
    """What the audit says of sessions."""
    bronze = flow_of(flow.feed, "bronze", flow.root)
    return [line for line in reconciled(bronze).wrong if flow.sink in line]


NOT_SILVER = "user_sessions is not what silver's final sessions are"
MISTAKES: dict[str, tuple[list[Row], str]] = {
    "lost": ([], f"{NOT_SILVER}: 1, (a,"),
    "twice": ([SOUND, SOUND], "a session of user_sessions is there twice: 1, ("),
    "another length": ([SOUND | {"duration_seconds": 60.4}], f"{NOT_SILVER}: 2, (a,"),
    "another outcome": ([SOUND | {"outcome": "timed_out"}], f"{NOT_SILVER}: 2, (a,"),
    "with a late record": ([SOUND | {"events": 3}], f"{NOT_SILVER}: 2, (a,"),
    "too early": ([SOUND, SOUND | {"session_id": "b", "user_id": "user of b"}], f"{NOT_SILVER}: 1, (b,"),
}


def test_the_audit_is_content_with_what_is_right(flow: Flow) -> None:
    assert wrong(flow) == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_audit_notices_every_mistake(flow: Flow, mistake: str) -> None:
    rows, expected = MISTAKES[mistake]
    write_sessions(flow, rows)
    assert any(line.startswith(expected) for line in wrong(flow)), wrong(flow)


def test_the_newest_session_is_shown_first(flow: Flow, cli: Cli) -> None:
    write_sessions(flow, [SOUND, SOUND | {"session_id": "newer", "session_start": at(30)}])
    shown = cli(flow.root, "show", "--feed=user_activity", f"--sink={flow.sink}").out
    assert "user_activity.user_sessions: 2 rows" in shown
    assert shown.index("newer") < shown.index("user of a")


def test_other_sessions_need_another_state(flow: Flow, tmp_path: Path) -> None:
    """A gap that changes under a checkpoint would give one session two ends."""
    new = flow_of(flow.feed, "user_sessions", tmp_path / "new")
    claim(new)
    plan(new, 0, {"batch": 0})
    longer = flow.feed.sessions[flow.kind.name].model_copy(update={"gap": flow.feed.sessions[flow.kind.name].gap * 2})
    feed = flow.feed.model_copy(update={"sessions": {flow.sink: longer}})
    problem = r"the feed file changed what user_activity\.user_sessions keeps: gap was PT15M and is PT30M"
    with pytest.raises(ConfigError, match=problem):
        claim(flow_of(feed, "user_sessions", new.root))
