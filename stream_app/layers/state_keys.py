"""Keys as Spark's state for Python holds them: times and dates as numbers.

Of a time in a key pyspark makes a local one, which fails in the year 1, and where clocks go back is two. Of a date the
JVM makes one by the calendar of that time, which has no 10 October 1582.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DateType, IntegerType, LongType, StructField, TimestampType

Change = Callable[[str], Column]
_NUMBERS: dict[type[DataType], tuple[DataType, Change, Change]] = {
    TimestampType: (LongType(), F.unix_micros, F.timestamp_micros),
    DateType: (IntegerType(), F.unix_date, F.date_from_unix_date),
}
"""What stands for a type, what makes it that, and what makes it what it was."""


@dataclass(frozen=True)
class StateKey:
    """A column of a key."""

    held: StructField
    """The column in the state."""
    to_state: Column
    """Silver's column as the state holds it."""
    from_state: Column
    """That as it was."""


def state_key(declared: StructField) -> StateKey:
    """Return how the state holds a column."""
    name, number = declared.name, _NUMBERS.get(type(declared.dataType))
    if number is None:
        return StateKey(declared, F.col(name), F.col(name))
    kind, to_state, from_state = number
    return StateKey(StructField(name, kind), to_state(name).alias(name), from_state(name).alias(name))
