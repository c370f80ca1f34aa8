"""Times as people's systems write them: one text, or a whole column of them, to a number of UTC. Pure.

docs/feeds.md#what-is-read-as-a-time-and-what-is-not has the table. A function for a column gives what that for one text
gives.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from stream_app.contract.plainly import read_all
from stream_app.contract.wire import decimal_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = EPOCH.replace(tzinfo=None)
_EPOCH_ORDINAL = EPOCH.date().toordinal()
_DAY_US = 86_400_000_000
_UTC_US = pa.timestamp("us", "UTC")


def microseconds(span: timedelta) -> int:
    """Return a span in microseconds, exactly."""
    return (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds


FIRST_US = microseconds(datetime(1, 1, 1, tzinfo=UTC) - EPOCH)
LAST_US = microseconds(datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC) - EPOCH)

# What fromisoformat reads beyond this is refused: weeks, hours alone, offsets with seconds, other digits, and 24:00,
# which newer Pythons read. It looks at the calendar.
_HOUR, _SIXTY = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_FRACTION, _OFFSET = "(?:[.,][0-9]{1,9})?", f"(?:[Zz]|[+-]{_HOUR}(?::?{_SIXTY})?)?"
_EXTENDED = f"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[Tt ]{_HOUR}:{_SIXTY}(?::{_SIXTY}{_FRACTION})?"
_BASIC = f"[0-9]{{8}}[Tt ]{_HOUR}{_SIXTY}(?:{_SIXTY}{_FRACTION})?"
TIME_SPELLING = f"(?:{_EXTENDED}|{_BASIC}){_OFFSET}"
DATE_SPELLING = "[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}"
_TIME, _DATE = re.compile(TIME_SPELLING), re.compile(DATE_SPELLING)

# What Arrow reads as fromisoformat does: days that every year has, in years that no offset leads out of 1 to 9999.
_ANY_YEAR_S_DAY = "(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
_PLAIN_DATE = f"(?:[1-8][0-9]|9[0-8])[0-9]{{2}}-{_ANY_YEAR_S_DAY}"
_PLAIN_OFFSET = rf"(?:Z|[+-]{_HOUR}(?::?{_SIXTY})?)"
_ZONED = rf"\A{_PLAIN_DATE}[T ]{_HOUR}:{_SIXTY}(?::{_SIXTY}(?:\.[0-9]{{1,6}})?)?{_PLAIN_OFFSET}\z"
_NAIVE = rf"\A{_PLAIN_DATE}[T ]{_HOUR}:{_SIXTY}(?::{_SIXTY}(?:\.[0-9]{{1,6}})?)?\z"
# Nanoseconds end in the year 2262, and are cut towards the epoch, which must lie before them.
_FINE = rf"\A(?:199|2[01][0-9])[0-9]-{_ANY_YEAR_S_DAY}[T ]{_HOUR}:{_SIXTY}:{_SIXTY}\.[0-9]{{7,9}}{_PLAIN_OFFSET}\z"


def microseconds_of(text: str) -> int | None:
    """Return the microseconds since the epoch of an ISO-8601 time, further digits cut; None for what is no such time.

    A time without an offset is UTC.
    """
    if not _TIME.fullmatch(text):
        return None
    try:
        time = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return _in_years(microseconds(time - (EPOCH if time.tzinfo else _NAIVE_EPOCH)))


def microseconds_of_all(texts: pa.Array) -> pa.Array:
    """Return `microseconds_of` each text, as int64 with nulls."""
    spellings = [(_ZONED, _cast(_UTC_US)), (_NAIVE, _cast(pa.timestamp("us"))), (_FINE, _cut)]
    return read_all(texts, pa.int64(), spellings, microseconds_of)


def days_of(text: str) -> int | None:
    """Return the days since the epoch of a date, YYYY-MM-DD or YYYYMMDD; None for what is no such date."""
    if not _DATE.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        return None


def days_of_all(texts: pa.Array) -> pa.Array:
    """Return `days_of` each text, as int32 with nulls."""
    spellings = [(rf"\A{_PLAIN_DATE}\z", lambda dates: dates.cast(pa.date32()).cast(pa.int32()))]
    return read_all(texts, pa.int32(), spellings, days_of)


def midnight_of(text: str) -> int | None:
    """Return the microseconds since the epoch at which a date begins in UTC; None for what is no date."""
    days = days_of(text)
    return None if days is None else days * _DAY_US


def midnight_of_all(texts: pa.Array) -> pa.Array:
    """Return `midnight_of` each text, as int64 with nulls."""
    return pc.multiply(days_of_all(texts).cast(pa.int64()), _DAY_US)


EPOCH_UNITS = {"epoch_seconds": 6, "epoch_millis": 3, "epoch_micros": 0}
"""The numbers that may stand for a time -> how many decimals of one are microseconds."""


def epoch_reader(unit: str) -> Callable[[str], int | None]:
    """Return what reads a JSON number in one of EPOCH_UNITS as microseconds since the epoch.

    It is exact: no float comes between. As of a text, nine decimals of a second are read and those after six are
    cut, to the earlier microsecond. None for a number with more, and for one outside of the years 1 to 9999.
    """
    decimals = EPOCH_UNITS[unit]
    scale = decimals + 3

    def read(text: str) -> int | None:
        number = decimal_of(text, 19 + 3, scale)
        return None if number is None else _in_years(int(number.scaleb(scale)) // 1000)

    return read


def epoch_reader_all(unit: str) -> Callable[[pa.Array], pa.Array]:
    """Return what reads a column of JSON numbers, as texts or bytes, as `epoch_reader` reads each: int64 with nulls."""
    decimals, read = EPOCH_UNITS[unit], epoch_reader(unit)
    # so few digits that no time is beyond the year 9999
    whole, fraction = f"[0-9]{{1,{17 - decimals}}}", rf"(?:\.[0-9]{{1,{decimals}}})?" if decimals else ""

    def to_microseconds(numbers: pa.Array) -> pa.Array:
        exact = numbers.cast(pa.string()).cast(pa.decimal128(18, decimals))
        return pc.multiply(exact, pa.scalar(10**decimals, pa.decimal128(7, 0))).cast(pa.int64())

    spellings = [(rf"\A{whole}{fraction}\z", to_microseconds)]
    return lambda texts: read_all(texts, pa.int64(), spellings, lambda wire: read(_text(wire)))


def _in_years(time_us: int) -> int | None:
    """Keep what lies in the years 1 to 9999, which an offset may lead out of."""
    return time_us if FIRST_US <= time_us <= LAST_US else None


def _cast(kind: pa.DataType) -> Callable[[pa.Array], pa.Array]:
    return lambda texts: texts.cast(kind).cast(pa.int64())


def _cut(texts: pa.Array) -> pa.Array:
    return texts.cast(pa.timestamp("ns", "UTC")).cast(_UTC_US, safe=False).cast(pa.int64())


def _text(wire: str | bytes) -> str:
    return wire if isinstance(wire, str) else wire.decode(errors="replace")
