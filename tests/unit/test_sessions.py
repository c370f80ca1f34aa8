"""A session is a function of the records that came in time, whatever their order and their batches."""

from collections.abc import Sequence
from datetime import timedelta

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.declared import Session
from stream_app.layers.sessions import Found, Kept, settle
from stream_app.ops import recompute
from tests.helpers import START_MS, at

SECOND = 1_000_000
GAP = 10 * SECOND
DELAY_MS = 4_000
Record = tuple[int, bool]


def click(seconds: float) -> Record:
    return int(seconds * SECOND), False


def end(seconds: float) -> Record:
    return int(seconds * SECOND), True


def at_once(records: Sequence[Record], watermark: float) -> tuple[list[Found], list[Found], Kept | None]:
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
    kept: Kept | None = None
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


@settings(max_examples=150, deadline=None)
@given(batches=BATCHES)
def test_batches_make_no_difference_and_duckdb_finds_the_same(batches: list[list[tuple[int, int, bool]]]) -> None:
    """As Spark runs it: late by the watermark of the batch before, final by that of this one, which is a batch late."""
    kept, late_by, watermark_ms, newest = None, -1, 0, 0
    found: list[Found] = []
    counted: list[Record] = []
    for batch in [*batches, []]:
        new = [(tenths * 100_000 + micros, is_end) for tenths, micros, is_end in batch]
        in_time = [record for record in new if record[0] > late_by]
        final, _, kept = settle(kept, in_time, watermark_ms * 1000, GAP)
        found, counted = found + final, counted + in_time
        late_by = watermark_ms * 1000 if watermark_ms else -1
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
