"""The audit's sums and averages: DuckDB and the service add in orders of their own, and round what they add."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from stream_app.feeds.feed import Feed
from stream_app.feeds.fields import Field
from stream_app.feeds.parts import Measure
from stream_app.ops.audit.derived import Derived, Gone
from stream_app.ops.audit.findings import Findings
from tests.helpers import flow_of

HUGE, LONG = 1.7e308, 2**63 - 1
HOUR_MS = 3_600_000


def found(feed: Feed, type_: str, values: Sequence[object], total: object, average: object) -> list[str]:
    """What the audit says of a window with those sums, of silver's rows with those values."""
    measures = {"total": Measure(function="sum", field="x"), "average": Measure(function="avg", field="x")}
    window = feed.windows["gold"].model_copy(update={"key": None, "measures": measures})
    field = Field.model_validate({"type": type_})
    feed = feed.model_copy(update={"fields": feed.fields | {"x": field}, "windows": {"gold": window}})
    database, findings = duckdb.connect(), Findings()
    sum_type = "DECIMAL(38,0)" if type_ == "long" else "DOUBLE"
    database.execute(f"CREATE TABLE rows (x {'BIGINT' if type_ == 'long' else type_})")
    database.executemany("INSERT INTO rows VALUES (?)", [[value] for value in values])
    database.execute(
        "CREATE VIEW _due_gold AS SELECT *, 0 AS partition, rowid AS \"offset\", TIMESTAMPTZ '1970-01-01 00:00:05+00' "
        "AS event_time FROM rows"
    )
    database.execute('CREATE TABLE _late_gold (partition INTEGER, "offset" BIGINT, window_start TIMESTAMPTZ)')
    database.execute(
        f"CREATE TABLE _actual_gold AS SELECT TIMESTAMPTZ '1970-01-01 00:00:00+00' AS window_start, "
        f"TIMESTAMPTZ '1970-01-01 00:01:00+00' AS window_end, ?::{sum_type} AS total, ?::DOUBLE AS average",
        [total, average],
    )
    flow = flow_of(feed, "gold", Path())
    assert flow.stateful
    Derived(database, findings).aggregates(flow, flow.stateful, HOUR_MS, Gone())
    return [line for _, line in findings.lines()]


@pytest.mark.parametrize(
    ("type_", "values", "total", "average"),
    [
        ("double", [1e20, 1.0, -1e20], 0.0, 0.0),
        ("double", [1e20, 1.0, -1e20], 1.0, 1 / 3),
        ("double", [HUGE, HUGE], float("inf"), float("inf")),
        ("double", [HUGE, HUGE, -HUGE, -HUGE], float("nan"), float("nan")),
        ("double", [HUGE, -HUGE, HUGE, -HUGE], 0.0, 0.0),
        ("double", [0.1, 0.2, 0.3], 0.6, 0.2),
        ("long", [LONG, -LONG, -LONG - 1, 1, 5], Decimal(-LONG + 5), -1.8446744073709552e18),
        ("long", [LONG, -LONG, 5], Decimal(5), 0.0),
        ("double", [None, None], None, None),
        ("long", [None], None, None),
        ("double", [None, 2.0], 2.0, 2.0),
    ],
)
def test_what_an_order_of_adding_makes_is_right(
    feed: Feed, type_: str, values: Sequence[object], total: object, average: object
) -> None:
    assert found(feed, type_, values, total, average) == []


@pytest.mark.parametrize(
    ("type_", "values", "total", "average"),
    [
        ("double", [0.1, 0.2, 0.3], 0.601, 0.2),
        ("double", [0.1, 0.2, 0.3], 0.6, 0.201),
        ("double", [0.1, 0.2, 0.3], float("nan"), 0.2),
        ("double", [0.1, 0.2, 0.3], None, 0.2),
        ("double", [HUGE, HUGE], None, float("inf")),
        ("double", [1e20, 1.0, -1e20], 1e12, 0.0),
        ("double", [1e9, -1e9, 5.0], 7.1, 5 / 3),
        ("long", [LONG, -LONG, 5], Decimal(6), 0.0),
        ("double", [None], 0.0, None),
        ("double", [None], None, 0.0),
        ("double", [1.0, None], 1.0, None),
    ],
)
def test_what_no_order_makes_is_wrong(
    feed: Feed, type_: str, values: Sequence[object], total: object, average: object
) -> None:
    (line,) = found(feed, type_, values, total, average)
    assert line.startswith("gold is not what silver's final windows are: 1, ")
