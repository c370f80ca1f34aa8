"""A rule says of a record what it says, whatever batch it is in, and never fails one."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.contract.rules import Rules
from stream_app.feeds import conditions
from stream_app.feeds.rules import Rule
from tests.examples import examples

SCHEMA = pa.schema(
    [
        ("a", pa.string()),
        ("n", pa.int64()),
        ("x", pa.float64()),
        ("ts", pa.timestamp("us", "UTC")),
        ("d", pa.decimal128(38, 2)),
        ("xs", pa.list_(pa.int64())),
        ("yes", pa.bool_()),
    ]
)
TYPES = ["VARCHAR", "BIGINT", "DOUBLE", "TIMESTAMPTZ", "DECIMAL(38,2)", "BIGINT[]", "BOOLEAN"]
COLUMNS = dict(zip(SCHEMA.names, TYPES, strict=True))
AT = datetime(2026, 11, 27, 8, 15, tzinfo=UTC)
GOOD = {"a": "7", "n": 7, "x": 7.5, "ts": AT, "d": Decimal("7.00"), "xs": [7], "yes": True}


def rules(*checks: str) -> Rules:
    return Rules({f"r{i}": Rule(check=check) for i, check in enumerate(checks)}, COLUMNS)


def table(rows: list[dict[str, Any]]) -> dict[str, pa.Array]:
    return {field.name: pa.array([row[field.name] for row in rows], field.type) for field in SCHEMA}


def broken(some: Rules, rows: list[dict[str, Any]]) -> list[list[bool]]:
    return [
        list(one) for one in zip(*(found.to_pylist() for found in some.broken(table(rows), {}).values()), strict=True)
    ]


@pytest.mark.parametrize(
    ("check", "change", "is_broken"),
    [
        ("n > 5", {}, False),
        ("n > 5", {"n": 5}, True),
        ("n > 5", {"n": None}, True),
        ("n IS NULL OR n > 5", {"n": None}, False),
        ("100 // n > 1", {"n": 0}, True),
        ("n + n > 1", {"n": 2**63 - 1}, True),
        ("a::INTEGER = 7", {}, False),
        ("a::INTEGER = 7", {"a": "seven"}, True),
        ("ln(x) > 0", {"x": 0.0}, True),
        ("sqrt(x) > 0", {"x": -1.0}, True),
        ("x * x > 1e308", {"x": 1e308}, False),  # infinity
        ("d * d > 0", {"d": Decimal(10) ** 35}, True),
        ("list_reduce(xs, lambda a, b: a + b) > 1", {"xs": []}, True),  # TRY does not catch it
        ("xs[2] > 1", {}, True),
        ("regexp_matches('x', a)", {"a": "("}, True),
        ("ts + to_years(n) > ts", {"n": 300_000}, True),
        ("ts AT TIME ZONE a > '2026-01-01'", {"a": "Atlantis/Center"}, True),
        ("hour(ts) = 8", {}, False),
        ("ts::VARCHAR = '2026-11-27 08:15:00+00'", {}, False),
        ("yes", {"yes": None}, True),
        ("yes -- or not", {}, False),
    ],
)
def test_what_is_not_true_is_broken(check: str, change: dict[str, Any], is_broken: bool) -> None:
    """Also where it cannot be evaluated; and of the records beside it, nothing else is said for that."""
    some = rules(check)
    assert broken(some, [GOOD | change]) == [[is_broken]]
    alone = broken(some, [GOOD])
    assert broken(some, [*[GOOD] * 9, GOOD | change, GOOD]) == [*alone * 9, [is_broken], *alone]


def test_a_rule_that_no_record_can_be_evaluated_on_is_broken_by_each() -> None:
    assert broken(rules("a LIKE '%' ESCAPE a", "n > 5"), [GOOD | {"a": "xy"}] * 5) == [[True, False]] * 5


def test_the_database_may_die_of_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB's internal errors make a database answer nothing any more: the next one does."""

    class Dying:
        def register(self, name: str, rows: pa.Table) -> None: ...

        def execute(self, _: str) -> None:
            raise duckdb.FatalException("database has been invalidated")

    some, opened = rules("n > 5"), []
    real = conditions.connect

    def connect() -> duckdb.DuckDBPyConnection:
        opened.append(1)
        return real()

    monkeypatch.setattr("stream_app.contract.rules.connect", connect)
    some._database = Dying()  # type: ignore[assignment]
    assert broken(some, [GOOD, GOOD | {"n": 1}, GOOD, GOOD]) == [[False], [True], [False], [False]]
    assert opened == [1]


def test_nothing_is_said_where_a_field_that_is_read_is_not_valid() -> None:
    some = rules("n > 5", "n > x", "yes")
    rows = [GOOD | {"n": None, "yes": False}, GOOD | {"n": 1, "yes": None}]
    found = some.broken(table(rows), {"n": pa.array([False, True]), "yes": pa.array([True, False])})
    assert {name: one.to_pylist() for name, one in found.items()} == {
        "r0": [False, True],
        "r1": [False, True],
        "r2": [True, False],
    }


def test_no_record_breaks_nothing() -> None:
    found = rules("n > 5", "list_reduce(xs, lambda a, b: a + b) > 1").broken(table([]), {})
    assert {name: one.to_pylist() for name, one in found.items()} == {"r0": [], "r1": []}


CHECKS = [
    "a::INTEGER > n OR ln(x) > 0",
    "CASE WHEN n % 7 <> 0 THEN n * 7 // n > 0 ELSE yes END",
    "ts + to_days(n::INTEGER) > ts AND d + d > d",
    "list_reduce(xs, lambda a, b: a + b) > n",
    "a LIKE '%x' ESCAPE a",
]
ALL = rules(*CHECKS)
ROW = st.fixed_dictionaries(
    {
        "a": st.none() | st.sampled_from(["", "7", "x", "xy", "(", "{", "2026-11-27", "é\0"]) | st.text(max_size=4),
        "n": st.none() | st.sampled_from([0, 1, 7, -1, 2**63 - 1, -(2**63)]) | st.integers(-(2**63), 2**63 - 1),
        "x": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "ts": st.none() | st.datetimes(timezones=st.just(UTC)),
        "d": st.none() | st.sampled_from([Decimal(0), Decimal(10) ** 35, -(Decimal(10) ** 35)]),
        "xs": st.none() | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
        "yes": st.none() | st.booleans(),
    }
)


@examples(10)
@given(st.lists(ROW, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_a_record_is_judged_alike_in_any_batch(rows: list[dict[str, Any]], random: Any) -> None:
    alone = [broken(ALL, [row])[0] for row in rows]
    order = [*range(len(rows))] * 2
    random.shuffle(order)
    assert broken(ALL, [rows[i] for i in order]) == [alone[i] for i in order]
    assert broken(ALL, rows) == alone


def test_a_record_that_cannot_be_evaluated_is_one_of_ten_thousand() -> None:
    """Beyond one vector of DuckDB's, both where TRY catches the error and where it does not."""
    rows = [GOOD] * 9_999 + [GOOD | {"a": "x", "xs": []}]
    found = rules("a::INTEGER = 7", "list_reduce(xs, lambda a, b: a + b) > 1").broken(table(rows), {})
    assert [one.to_pylist() for one in found.values()] == [[False] * 9_999 + [True]] * 2
