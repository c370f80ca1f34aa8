"""A session of very many records ahead of the watermark: the same sessions, without looking at them all."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stream_app.layers.runs import Record, Runs, from_bytes, to_bytes
from stream_app.layers.session_state import Found, OpenSessions, advance, settle
from tests.examples import examples

GAP = 50
MANY = 200_000


class Chunks(dict[int, bytes]):
    """As Spark's state, with a count of what was asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = Counter[str]()

    def __getitem__(self, first: int) -> bytes:
        self.asked["read"] += 1
        return super().__getitem__(first)

    def __setitem__(self, first: int, times: bytes) -> None:
        self.asked["written"] += 1
        super().__setitem__(first, times)

    def __delitem__(self, first: int) -> None:
        self.asked["deleted"] += 1
        super().__delitem__(first)


RECORDS = st.tuples(st.integers(-20, 400), st.sampled_from([False, False, False, False, True]))
BATCHES = st.lists(st.tuples(st.lists(RECORDS, max_size=40), st.integers(0, 60)), min_size=1, max_size=10)


@examples(400)
@given(batches=BATCHES, most=st.integers(0, 6), size=st.integers(1, 5), least=st.integers(1, 4))
def test_runs_make_no_difference(batches: list[tuple[list[Record], int]], most: int, size: int, least: int) -> None:
    """To any batch: the same sessions become final, the same are open, and the timer is the same."""
    runs = Runs(chunks := Chunks(), most, size, least)
    simple: OpenSessions | None = None
    kept: OpenSessions | None = None
    late_by, watermark = -100, 0
    for new, step in [*batches, ([], 10_000)]:
        records = [record for record in new if record[0] > late_by]
        expected = settle(simple, records, watermark, GAP)
        found = advance(kept, records, watermark, GAP, runs)
        assert found[:2] == expected[:2]
        simple, kept = expected[2], found[2]
        assert (kept and (kept.wake_ms, kept.ends)) == (simple and (simple.wake_ms, simple.ends))
        assert set(chunks) == {run.first for run in (kept.runs if kept else ())}
        late_by, watermark = watermark, watermark + step
    advance(kept, [], watermark, GAP, runs)
    assert not chunks


def long_session(chunks: Chunks) -> tuple[Runs, OpenSessions]:
    runs = Runs(chunks)
    _, (opened,), kept = advance(None, [(time, False) for time in range(0, MANY * 2, 2)], -1, GAP, runs)
    assert opened == Found(0, (MANY - 1) * 2, MANY, False)
    assert kept is not None
    return runs, kept


def test_one_record_more_costs_one_record() -> None:
    runs, kept = long_session(chunks := Chunks())
    assert len(kept.times) <= runs.most_alone
    assert len(kept.runs) <= MANY / runs.size
    assert max(map(len, chunks.values())) <= 2 * runs.size * 16
    for time in (1, MANY, MANY + 1, 0, MANY * 2, MANY * 3):
        chunks.asked.clear()
        _, _, after = advance(kept, [(time, False)], -1, GAP, runs)
        assert after is not None
        kept = after
        assert chunks.asked.total() <= 2, f"the record at {time} asked for {chunks.asked}"
        assert len(kept.times) <= runs.most_alone


def test_an_end_divides_a_long_session_at_the_cost_of_one_chunk() -> None:
    runs, kept = long_session(chunks := Chunks())
    chunks.asked.clear()
    _, (first, second), after = advance(kept, [(MANY + 1, True)], -1, GAP, runs)
    assert first == Found(0, MANY + 1, MANY // 2 + 2, True)
    assert second == Found(MANY + 2, (MANY - 1) * 2, MANY // 2 - 1, False)
    assert chunks.asked.total() <= 3
    assert after is not None
    final, still_open, _ = advance(after, [], MANY + 1, GAP, runs)
    assert (final, still_open) == ([first], [second])


def test_very_many_records_of_few_times_are_counted() -> None:
    """As where clients send whole seconds."""
    runs = Runs(chunks := Chunks())
    _, _, kept = advance(None, [(n % 3, False) for n in range(MANY)], -1, GAP, runs)
    assert kept is not None
    assert sum(map(len, chunks.values())) <= 3 * 16
    _, (opened,), kept = advance(kept, [(1, False)] * 5, -1, GAP, runs)
    assert opened == Found(0, 2, MANY + 5, False)


def test_a_state_from_before_there_were_runs_is_taken_over() -> None:
    times = list(range(MANY))
    runs = Runs(chunks := Chunks())
    _, opened, kept = advance(OpenSessions(None, times, [100], 7), [(5, False)], -1, GAP, runs)
    assert opened == [Found(0, 100, 102, True), Found(101, MANY - 1, MANY - 101, False)]
    assert kept is not None
    assert len(chunks) >= MANY / 3 / runs.size
    assert len(kept.times) <= runs.most_alone
    assert from_bytes(to_bytes(kept.runs)) == kept.runs


def test_very_many_short_sessions_need_no_chunks() -> None:
    runs = Runs(chunks := Chunks())
    _, opened, kept = advance(None, [(time, True) for time in range(5_000)], -1, GAP, runs)
    assert len(opened) == 5_000
    _, opened, kept = advance(kept, [(7, True)], -1, GAP, runs)
    assert len(opened) == 5_000
    assert not chunks
