"""Measures of windows and totals as Spark has them: how each is computed, and its type."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DecimalType, DoubleType, FloatType, IntegerType, LongType, TimestampType

from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Measure
from stream_app.layers.origin import How, Origin, Origins

_FUNCTIONS = {"sum": F.sum, "avg": F.avg, "min": F.min, "max": F.max}
OF_A_WINDOW = 2**32
"""How many records a window may have, so that its sum of longs has room in a long."""


def as_column(measure: Measure, feed: Feed, records: int = OF_A_WINDOW) -> Column:
    """Return the measure of silver's rows, which are `records` at most."""
    if measure.field is None:
        return F.count(F.lit(1))
    if measure.function == "distinct":  # Spark refuses count_distinct in streams
        return F.size(F.collect_set(measure.field)).cast("long")
    if feed.values[measure.field].sum_is_wide(measure.function, records):
        return F.sum(F.col(measure.field).cast("decimal(28,0)"))  # a decimal(38,0): Spark adds ten digits
    return _FUNCTIONS[measure.function](measure.field)


def data_type(measure: Measure, feed: Feed, records: int = OF_A_WINDOW) -> DataType:
    """Return what Spark makes of it."""
    if measure.function == "start":
        return TimestampType()
    if measure.field is None or measure.function == "distinct":
        return LongType()
    if feed.values[measure.field].sum_is_wide(measure.function, records):
        return DecimalType(38, 0)
    if (decimal := feed.values[measure.field].precision_scale) is not None:
        return DecimalType(*_digits(measure, *decimal))
    kind = schema.fields(feed)[measure.field].dataType
    if measure.function == "avg" or (measure.function == "sum" and isinstance(kind, FloatType)):
        return DoubleType()
    return LongType() if measure.function == "sum" and isinstance(kind, IntegerType) else kind


def _digits(measure: Measure, precision: int, scale: int) -> tuple[int, int]:
    """Return precision and scale as Spark: ten more digits for a sum, four and four decimals more for an average."""
    more, finer = {"sum": (10, 0), "avg": (4, 4)}.get(measure.function, (0, 0))
    return min(38, precision + more), scale + finer


def origins(measure: Measure) -> Origins:
    """Return what of silver the measure is made of; a count is made of no column."""
    return (Origin(measure.field, How.AGGREGATION, by=measure.function),) if measure.field else ()
