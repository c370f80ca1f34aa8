"""Times as people's systems write them: one text and a whole column are read alike, and as the calendar has it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.contract.times import (
    EPOCH,
    EPOCH_UNITS,
    days_of,
    days_of_all,
    epoch_reader,
    epoch_reader_all,
    microseconds,
    microseconds_of,
    microseconds_of_all,
    midnight_of,
    midnight_of_all,
)
from stream_app.settings import PROJECT
from tests.examples import examples

BEGIN = datetime.fromisoformat("1990-01-01")  # without a zone, as hypothesis wants it
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def micros(moment: datetime) -> int:
    return microseconds(moment - EPOCH)


def documented() -> list[tuple[str, str]]:
    """The examples of the table in docs/feeds.md, each with what it is read as."""
    page = (PROJECT / "docs" / "feeds.md").read_text()
    section = page.partition("## What is read as a time, and what is not\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| [A-Z0-9].* \| (`.*`) \| (.*) \|$", section, re.MULTILINE)
    assert len(rows) == section.count("\n|") - 2, "each line of the table is a row but its head"
    return [(example, expected) for examples, expected in rows for example in re.findall("`(.*?)`", examples)]


@pytest.mark.parametrize(("text", "expected"), documented(), ids=str)
def test_the_table_of_times_is_true(text: str, expected: str) -> None:
    time = None if expected == "`bad_time`" else micros(datetime.fromisoformat(expected))
    assert microseconds_of(text) == time
    assert microseconds_of_all(pa.array([text])).to_pylist() == [time]


# Texts are made of their parts, so that what they mean is known without parsing.


@dataclass(frozen=True)
class Written:
    """A time as somebody wrote it, and the microsecond that it means, if it is one that we read."""

    text: str
    time_us: int | None


@st.composite
def times(draw: st.DrawFn) -> Written:
    """A time in any of the spellings of the table, with the offset that leads anywhere."""
    local = draw(st.datetimes() | st.datetimes(BEGIN, BEGIN.replace(year=2262)))
    is_basic, has_seconds, digits = draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from([0, 0, 3, 6, 7, 9]))
    dash, colon = ("", "") if is_basic else ("-", ":")
    text = f"{local.year:04}{dash}{local.month:02}{dash}{local.day:02}{draw(st.sampled_from('TTTt '))}"
    text += f"{local.hour:02}{colon}{local.minute:02}"
    fraction = f"{local.microsecond:06}{draw(st.integers(0, 999)):03}"[:digits] if has_seconds else ""
    if has_seconds:
        text += f"{colon}{local.second:02}" + (draw(st.sampled_from("..,")) + fraction if fraction else "")
    meant = local.replace(second=local.second if has_seconds else 0, microsecond=int(fraction.ljust(6, "0")[:6]))
    sign, hours, minutes = draw(st.sampled_from("+-")), draw(st.integers(0, 23)), draw(st.integers(0, 59))
    offset, ahead = draw(
        st.sampled_from(
            [
                *(("Z", 0), ("Z", 0), ("z", 0), ("", 0), ("+00", 0)),
                (f"{sign}{hours:02}", hours * 60),
                (f"{sign}{hours:02}:{minutes:02}", hours * 60 + minutes),
                (f"{sign}{hours:02}{minutes:02}", hours * 60 + minutes),
            ]
        )
    )
    time_us = micros(meant.replace(tzinfo=UTC)) - (-1 if offset[:1] == "-" else 1) * ahead * 60_000_000
    return Written(text + offset, time_us if micros(FIRST) <= time_us <= micros(LAST) else None)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A time in which some signs are others, or are doubled or dropped."""
    text = draw(times()).text
    for _ in range(draw(st.integers(1, 2))):
        start = draw(st.integers(0, len(text)))
        sign = draw(
            st.sampled_from([*"0123456789TtZz:.,+- W", "24", "60", "31", "02-29", "\n", "\0", "\u0663", "é", ""])
        )
        text = text[:start] + sign + text[start + draw(st.integers(0, 2)) :]
    return text


@examples(500)
@given(st.lists(times(), max_size=6))
def test_a_time_in_any_spelling_is_what_was_meant(written: list[Written]) -> None:
    expected = [one.time_us for one in written]
    assert [microseconds_of(one.text) for one in written] == expected
    assert microseconds_of_all(pa.array([one.text for one in written], pa.string())).to_pylist() == expected


@examples(1_000)
@given(st.lists(mutated() | times().map(lambda one: one.text) | st.none() | st.text(max_size=30), max_size=6))
def test_a_column_of_any_texts_is_read_as_each_of_them(texts: list[str | None]) -> None:
    expected = [None if text is None else microseconds_of(text) for text in texts]
    assert microseconds_of_all(pa.array(texts, pa.string())).to_pylist() == expected
    sliced = pa.array(["x", *texts, None], pa.string())[1:-1]
    assert microseconds_of_all(sliced).to_pylist() == expected


@examples(1_000)
@given(mutated())
def test_what_is_read_python_reads_alike(text: str) -> None:
    """As fromisoformat does, but for `z` and what lies outside of its years in UTC."""
    if (time := microseconds_of(text)) is not None:
        read = datetime.fromisoformat(text.replace("z", "Z"))
        assert EPOCH + timedelta(microseconds=time) == (read if read.tzinfo else read.replace(tzinfo=UTC))


@pytest.mark.parametrize("fraction", ["", ".123456", ".1234567", ".123456789"])
@pytest.mark.parametrize("offset", ["Z", "", "+00", "-05:30", "+0530"])
def test_the_usual_spellings_are_read_by_arrow(fraction: str, offset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as a batch has no other, nothing is done for one text alone."""
    if len(fraction) > 7 and not offset:
        pytest.skip("nanoseconds without an offset are rare")
    expected = microseconds_of(text := f"2026-11-27 08:15:30{fraction}{offset}")
    monkeypatch.setattr("stream_app.contract.times.microseconds_of", None)
    assert microseconds_of_all(pa.array([text, text])).to_pylist() == [expected] * 2


@given(st.dates(), st.sampled_from(["%04d-%02d-%02d", "%04d%02d%02d"]))
def test_a_date_is_its_day_and_its_midnight(day: date, spelling: str) -> None:
    text = spelling % (day.year, day.month, day.day)
    days = (day - date(1970, 1, 1)).days
    assert days_of(text) == days
    assert days_of_all(pa.array([text])).to_pylist() == [days]
    midnight = micros(datetime(day.year, day.month, day.day, tzinfo=UTC))
    assert midnight_of(text) == midnight
    assert midnight_of_all(pa.array([text])).to_pylist() == [midnight]


DATES = st.from_regex(r"[0-9]{4}-[0-1][0-9]-[0-3][0-9]|[0-9]{8}|[0-9]{4}-W?[0-9]{2,3}", fullmatch=True)


@examples(500)
@given(st.lists(st.none() | DATES | mutated() | st.sampled_from(["2026-11-27\n", " 2026-11-27"]), max_size=6))
def test_a_column_of_any_dates_is_read_as_each_of_them(texts: list[str | None]) -> None:
    expected = [None if text is None else days_of(text) for text in texts]
    assert days_of_all(pa.array(texts, pa.string())).to_pylist() == expected


@pytest.mark.parametrize(
    "text", ["", "2026-02-29", "20260229", "2026-W48-5", "2026-331", "2026-11-27T00:00:00Z", "2026-1-1", "0000-01-01"]
)
def test_what_is_no_date(text: str) -> None:
    assert days_of(text) is None
    assert midnight_of(text) is None
    assert days_of_all(pa.array([text])).to_pylist() == [None]


@pytest.mark.parametrize(
    ("unit", "text", "expected"),
    [
        ("epoch_seconds", "1732690000", 1_732_690_000_000_000),
        ("epoch_seconds", "1732690000.123", 1_732_690_000_123_000),
        ("epoch_seconds", "1732690000.123456789", 1_732_690_000_123_456),
        ("epoch_seconds", "1732690000.1234567891", None),
        ("epoch_seconds", "1.732690000123e9", 1_732_690_000_123_000),
        ("epoch_seconds", "4503599627.370497", 4_503_599_627_370_497),  # times 1e6 as a float: one less
        ("epoch_seconds", "-0.000001", -1),
        ("epoch_seconds", "-0.0000001", -1),
        ("epoch_seconds", "-0", 0),
        ("epoch_seconds", "253402300799.999999", micros(LAST)),
        ("epoch_seconds", "253402300800", None),
        ("epoch_seconds", "-62135596800", micros(FIRST)),
        ("epoch_seconds", "-62135596800.000001", None),
        ("epoch_seconds", "1732690000123", None),  # milliseconds, of which the year is 56876
        ("epoch_seconds", "1e400", None),
        ("epoch_seconds", "1e-400", None),
        ("epoch_seconds", "9" * 5000, None),
        ("epoch_millis", "1732690000123", 1_732_690_000_123_000),
        ("epoch_millis", "1732690000123.1", 1_732_690_000_123_100),
        ("epoch_millis", "1732690000123.4567", 1_732_690_000_123_456),
        ("epoch_micros", "1732690000123456", 1_732_690_000_123_456),
        ("epoch_micros", "1732690000123456.789", 1_732_690_000_123_456),
        ("epoch_micros", "1732690000123456789", None),
    ],
)
def test_numbers_are_times_by_declaration(unit: str, text: str, expected: int | None) -> None:
    assert epoch_reader(unit)(text) == expected
    for kind in (pa.string(), pa.binary()):
        assert epoch_reader_all(unit)(pa.array([text], kind)).to_pylist() == [expected]


NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@examples(500)
@given(
    st.sampled_from([*EPOCH_UNITS]),
    st.lists(NUMBERS | st.floats(-1e12, 1e18, allow_nan=False).map(repr) | st.just("-"), max_size=6),
)
def test_a_column_of_numbers_is_read_as_each_and_exactly(unit: str, texts: list[str]) -> None:
    found = list(map(epoch_reader(unit), texts))
    assert epoch_reader_all(unit)(pa.array(texts, pa.string())).to_pylist() == found
    for text, time in zip(texts, found, strict=True):
        if time is not None:
            assert time == Fraction(Decimal(text)) * 10 ** EPOCH_UNITS[unit] // 1


@pytest.mark.parametrize(
    "read_all", [microseconds_of_all, days_of_all, midnight_of_all, epoch_reader_all("epoch_millis")]
)
def test_a_column_of_nothing(read_all: Callable[[pa.Array], pa.Array]) -> None:
    assert read_all(pa.array([], pa.string())).to_pylist() == []
    assert read_all(pa.array([None, None], pa.string())).to_pylist() == [None, None]


def test_bytes_of_any_kind_are_no_number() -> None:
    """As msgspec hands on, unread, what is in place of a number."""
    assert epoch_reader_all("epoch_seconds")(pa.array([b"\xff", b'"1"', b"[1]"])).to_pylist() == [None] * 3


def test_an_offset_is_that_of_the_zone() -> None:
    local = datetime(2026, 11, 27, 8, 15, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))
    assert microseconds_of("2026-11-27T08:15-03:30") == micros(local)
