"""History is even and within its span; live traffic keeps its pace and makes up for little."""

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.schedule import Pace, history

NOW_MS = 1_795_234_830_125


@given(seconds=st.integers(0, 3_600), per_second=st.floats(0.01, 20))
def test_history_is_monotonic_even_and_within_its_span(seconds: int, per_second: float) -> None:
    times = list(history(NOW_MS, timedelta(seconds=seconds), per_second))
    assert times == sorted(times)
    assert len(times) == int(seconds * per_second)
    assert all(NOW_MS - seconds * 1000 <= time < NOW_MS for time in times)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_history_of_unlimited_traffic_has_the_default_density() -> None:
    assert len(list(history(NOW_MS, timedelta(minutes=15), 0))) == 15 * 60 * 5


def test_no_span_means_no_history() -> None:
    assert list(history(NOW_MS, timedelta(), 5)) == []


@pytest.mark.parametrize("per_second", [0.5, 5, 3_000])
def test_pace_sends_as_many_as_asked_for(per_second: float) -> None:
    now, sent = 100.0, 0
    pace = Pace(per_second, now)
    while now < 110:
        wait = pace.wait(now)
        if wait > 0:
            now += max(wait, 0.005)
        else:
            pace.sent(now)
            sent += 1
    assert sent == pytest.approx(per_second * 10, abs=per_second * 0.01 + 1)


def test_pace_without_a_rate_never_waits() -> None:
    pace = Pace(0, 100.0)
    pace.sent(100.0)
    assert pace.wait(100.0) == 0


def test_a_long_stall_is_not_made_up_for() -> None:
    pace, now, sent = Pace(10, 100.0), 30_000.0, 0
    while pace.wait(now) <= 0:
        pace.sent(now)
        sent += 1
    assert sent <= 12
