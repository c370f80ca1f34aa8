"""Measures that DuckDB computes, with the digits that Spark gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal

import pyarrow as pa

from stream_app.feeds.feed import Feed
from stream_app.feeds.parts import Measure

# What an average of decimals has more than they have (layers/measures.py), and room for the longest.
_AVERAGE_DECIMALS = 4
_ROOMY = Context(prec=80)
# Spark and DuckDB add doubles in orders of their own.
_SUM_DIGITS = 12


def _is_exact(feed: Feed, measure: Measure) -> bool:
    return measure.function == "avg" and feed.values[measure.field or ""].precision_scale is not None


def exact(feed: Feed, declared: Mapping[str, Measure]) -> dict[str, Measure]:
    """Return measures with the sum and the number in place of averages of decimals, which DuckDB makes doubles."""
    measures: dict[str, Measure] = {}
    for name, measure in declared.items():
        measures[name] = measure
        if _is_exact(feed, measure):
            measures[name] = Measure(function="sum", field=measure.field)
            measures[_number_of(name)] = Measure(function="count", field=measure.field)
    return measures


def shown(feed: Feed, keys: Sequence[str], measures: Mapping[str, Measure], table: pa.Table) -> pa.Table:
    """Return rows of keys and of `exact` measures with the digits that Spark has."""
    made = {name: _measured(feed, name, measure, table) for name, measure in measures.items()}
    return pa.table({key: table[key] for key in keys} | made)


def _measured(feed: Feed, name: str, measure: Measure, table: pa.Table) -> pa.ChunkedArray | pa.Array:
    """Return a measure as Spark has it."""
    if _is_exact(feed, measure):
        _, scale = feed.values[measure.field or ""].precision_scale or (0, 0)
        unit = Decimal(1).scaleb(-scale - _AVERAGE_DECIMALS)
        both = zip(table[name].to_pylist(), table[_number_of(name)].to_pylist(), strict=True)
        return pa.array([None if total is None else _average(total, number, unit) for total, number in both])
    if measure.function in {"sum", "avg"} and pa.types.is_floating(table[name].type):
        return pa.array(
            [value if value is None else float(f"{value:.{_SUM_DIGITS}g}") for value in table[name].to_pylist()]
        )
    return table[name]


def _average(total: Decimal, number: int, unit: Decimal) -> Decimal:
    return _ROOMY.divide(total, number).quantize(unit, ROUND_HALF_UP, _ROOMY)


def _number_of(measure: str) -> str:
    return f"_number_{measure}"  # as no column of a feed can be called
