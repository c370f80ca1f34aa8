"""What every sink promises, whatever its kind: one suite over the registry, with a real broker and PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession

from stream_app.admission import reset_journal
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.fields import Field
from stream_app.flows.batch import Batch
from stream_app.sinks.protocol import Guarantee, Tools, rows_of
from stream_app.sinks.registry import SINKS
from stream_app.sources.split import SPLIT
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.offsets import LayerOffset
from tests.helpers import START_MS, Row, claim, plan, silver_row
from tests.sinks.conftest import KINDS, MODULES, Died, Target, dies_at

Targets = Callable[..., Target]
POINTS = ("before_staging", "mid_staging", "staged", "renamed", "before_commit")
HOSTILE = [
    "a\0b",
    '"',
    "'",
    "\\",
    "\\u0000",
    "a,b\r\nc",
    "\u2028",
    "漢😀",
    "=1+1",
    "\ufeff",
    " ",
    "%s",
    "{}",
    "null",
    "NaN",
]


def batch(first: int, count: int = 3, **changed: object) -> list[Row]:
    return [silver_row(number, number, **changed) for number in range(first, first + count)]


def ids(target: Target) -> Counter[str]:
    return Counter(row["txn_id"] for row in target.rows())


def check(target: Target, numbers: range, sent_again: int = 0) -> None:
    """Each row is there, once where that is promised; else those of the batch that ran again may be there again."""
    found = ids(target)
    assert found.keys() == {f"t{number}" for number in numbers}
    most = 1 + (sent_again if target.sink.guarantee is Guarantee.AT_LEAST_ONCE else 0)
    assert max(found.values()) <= most


# These write files as the CSV does, so that what takes long is tried with them by `make test-faults`.
LIKE_THE_CSV = {"lake", "jsonl"}
FEWER = [pytest.param(kind, marks=[pytest.mark.faults] * (kind in LIKE_THE_CSV)) for kind in KINDS]


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, target_of: Targets) -> Target:
    return target_of(request.param)


def test_each_row_arrives_and_the_report_says_so(target: Target) -> None:
    with target.running() as take:
        target.write(batch(0))
        take()
        target.write(batch(3, 2))
        first, second = take()
    assert [(one.batch_id, one.rows_in, one.rows_out) for one in (first, second)] == [(0, 3, 3), (1, 2, 2)]
    assert [bool(one.files) for one in (first, second)] == [target.flow.form is not None] * 2
    check(target, range(5))


def test_a_batch_that_is_run_again_changes_nothing_that_was_promised(target: Target) -> None:
    """As after a power cut that took back Spark's commit."""
    target.write(batch(0))
    target.drain()
    for commit in (target.flow.checkpoint.path / "commits").iterdir():
        commit.unlink()
    before = target.rows()
    target.write(batch(3))
    target.drain()
    check(target, range(6), sent_again=1)
    assert [row for row in before if row not in target.rows()] == []


@pytest.mark.parametrize("target", FEWER, indirect=True)
def test_a_death_at_each_point_loses_and_doubles_nothing(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch after batch dies at one of them, and is run again with the next one behind it."""
    died = []
    target.write(batch(0))
    target.drain()
    for number, point in enumerate(POINTS, 1):
        target.write(batch(3 * number))
        with monkeypatch.context() as patch:
            for module in MODULES:
                patch.setattr(module, "reach", dies_at(point, number))
            try:
                target.drain()
            except StreamingQueryException as error:
                assert Died.__name__ in str(error)
                died.append(point)
        found = ids(target).keys()
        assert {f"t{row}" for row in range(3 * number)} <= found, f"what was written before a death {point}"
    target.write(batch(3 * (len(POINTS) + 1)))
    target.drain()
    check(target, range(3 * (len(POINTS) + 2)), sent_again=1)
    assert {POINTS[0], POINTS[-1]} <= {*died}, "each sink has these"


def test_a_sink_that_is_reset_is_written_again_from_the_start(target: Target) -> None:
    target.write(batch(0))
    target.drain()
    reset_journal.begin(target.flow, {})
    assert reset_journal.finish(target.flow) == ["x"]
    target.drain()
    check(target, range(3), sent_again=1)


TENTH = 0.10000000149011612
"""The float that is written as 0.1."""


@pytest.mark.proves("Outputs grow in place", "csv", "lake", "delta", "topic", "postgres")
@pytest.mark.parametrize("target", FEWER, indirect=True)
def test_a_dataset_that_has_grown_goes_on_where_it_was(target: Target, feed: Feed) -> None:
    """Rows of before have null in new columns, and the same values in wider ones, also once files are merged."""
    target.declare(narrow(feed))
    for number in range(4):
        target.write([silver_row(number, number, visits=7, gauge=[TENTH])])
    assert len(target.drain(max_offsets_per_trigger=1)) == 4, "a batch of each file"
    target.write(
        [silver_row(4, 4, visits=7, gauge=[TENTH])]
    )  # is planned and taken by the start that finds the feed grown
    target.declare(grown(feed))
    more: Row = {"note": "new", "parts": [{"n": 1}, None], "visits": 2**40, "amount": Decimal("1.2345")}
    for first in (5, 7):  # with a start in between
        for number in (first, first + 1):
            target.write([silver_row(number, number, **more)])
        assert len(target.drain(max_offsets_per_trigger=1)) == (3 if first == 5 else 2)
    for _ in range(2):
        check(target, range(9))
        found = {row["txn_id"]: row for row in target.rows()}
        for number in range(9):
            row, is_old = found[f"t{number}"], number < 5
            assert row.get("note") == (None if is_old else "new")
            assert bool(row.get("parts")) is not is_old
            assert row["visits"] == (7 if is_old else more["visits"])
            assert Decimal(str(row["amount"])) == (Decimal("12.5") if is_old else more["amount"])
            assert float(row["lat"]) in ({50.9, 50.900001525878906} if is_old else {50.9})
        assert target.unlike_its_dataset() == []
        target.compact()
    if target.flow.form:
        assert len(target.flow.files()) < 9


def narrow(feed: Feed) -> Feed:
    """The feed with types that hold less."""
    return declared(
        feed, {"lat": {"type": "float"}, "visits": {"type": "int", "required": False}, "gauge": _list("float")}
    )


def added(feed: Feed) -> Feed:
    """The same with fields that records may lack, before and after the others."""
    note: dict[str, object] = {"type": "string", "required": False}
    items = {"type": "struct", "required": False, "fields": {"n": {"type": "int"}}}
    parts: dict[str, object] = {"type": "array", "required": False, "element": items}
    first = declared(feed.model_copy(update={"fields": {}}), {"note": note})
    return declared(feed.model_copy(update={"fields": first.fields | feed.fields}), {"parts": parts})


def wider(feed: Feed) -> Feed:
    """The same with types that hold more."""
    visits: dict[str, object] = {"type": "long", "required": False}
    amount: dict[str, object] = {"type": "decimal(20,4)"}
    return declared(feed, {"lat": {"type": "double"}, "visits": visits, "amount": amount, "gauge": _list("double")})


def _list(kind: str) -> dict[str, object]:
    return {"type": "array", "required": False, "element": {"type": kind}}


def grown(feed: Feed) -> Feed:
    """The same with both."""
    return wider(added(feed))


def declared(feed: Feed, fields: dict[str, dict[str, object]]) -> Feed:
    """The feed with those fields, in their places or at the end."""
    return feed.model_copy(update={"fields": feed.fields | {n: Field.model_validate(f) for n, f in fields.items()}})


def test_a_batch_without_rows_writes_nothing(target: Target, spark: SparkSession) -> None:
    claim(target.flow)
    plan(target.flow, 0, {"batch": 0})
    rows = rows_of(target.flow)
    writer = target.sink.writer(
        target.flow, rows, Tools(Hadoop(spark), target.settings.servers, fail_on_data_loss=True)
    )
    writer.prepare(rows.columns)
    nothing = Batch(0, START_MS, 0, 0, LayerOffset(), LayerOffset(batch=0), ())
    report = writer.write(nothing, spark.createDataFrame([], SPLIT))
    assert (report.rows_in, report.rows_out, report.files, report.bytes) == (0, 0, (), 0)
    assert target.rows() == []


def test_hostile_texts_arrive(target: Target) -> None:
    target.write([silver_row(number, number, merchant=text) for number, text in enumerate(HOSTILE)])
    target.drain()
    found = {row["txn_id"]: row["merchant"] for row in target.rows()}
    assert found.keys() == {f"t{number}" for number in range(len(HOSTILE))}
    # PostgreSQL's texts hold no NUL, and a CSV has an apostrophe before what a spreadsheet would run
    shown = {f"t{number}": {text, text.replace("\0", "\ufffd"), f"'{text}"} for number, text in enumerate(HOSTILE)}
    assert [key for key, text in found.items() if text not in shown[key]] == []


ENDS: dict[str, tuple[str, list[object]]] = {
    "word": ("string", ["", "a\0", "\u2028"]),
    "flag": ("boolean", [True, False]),
    "small": ("int", [-(2**31), 2**31 - 1]),
    "large": ("long", [-(2**63), 2**63 - 1, 2**53 + 1]),
    "ratio": ("float", [0.10000000149011612, 1.401298464324817e-45, 3.4028234663852886e38]),
    "exact": ("double", [5e-324, 1.7976931348623157e308, 0.1, 1e7, 123456789012345680.0]),
    "price": ("decimal(18,2)", [Decimal("9999999999999999.99"), Decimal("-0.01"), Decimal("0.00")]),
    "whole": ("decimal(38,0)", [Decimal("9" * 38), Decimal("-1")]),
    "share": ("decimal(38,38)", [Decimal("1E-38"), Decimal("0." + "9" * 38), Decimal("-0.5"), Decimal("0E-38")]),
    "fine": ("decimal(20,10)", [Decimal("1E-10"), Decimal("1234567890.0123456789")]),
    "day": ("date", [date.min, date.max, date(1582, 10, 10)]),
    "moment": ("timestamp", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]),
    "raw": ("binary", [b"", bytes(range(256))]),
    "code": ("uuid", ["00000000-0000-0000-0000-000000000000"]),
    "any": ("json", ['{ "a" : 1.50, "a": [1e400] }', '"\\u0000"']),
}
"""Of every type that holds one value the least, the greatest, and what a careless way from text to value alters."""


def write_ends(target: Target, feed: Feed) -> None:
    """Have silver hold those values alone, in an array, in a map and in a struct."""
    fields = dict[str, dict[str, object]]()
    for name, (typed, _) in ENDS.items():
        one = {"type": typed, "required": False}
        fields |= {name: one, f"{name}s": {"type": "array", "required": False, "element": one}}
        fields |= {f"{name}_by": {"type": "map", "required": False, "value": one}}
        fields |= {f"{name}_in": {"type": "struct", "required": False, "fields": {name: one}}}
    target.declare(declared(feed, fields))
    rows = [silver_row(0)]
    for number in range(5):
        row: Row = {}
        for name, (_, ends) in ENDS.items():
            end = ends[number % len(ends)]
            row |= {name: end, f"{name}s": [end, None], f"{name}_by": [("k\0", end), ("", None)]}
            row[f"{name}_in"] = {name: end}
        rows.append(silver_row(number + 1, number, **row))
    target.write(rows)


@pytest.mark.parametrize("kind", list(SINKS))
def test_the_ends_of_every_type_arrive_as_they_are(target_of: Targets, feed: Feed, kind: str) -> None:
    target = target_of(kind)
    write_ends(target, feed)
    target.drain()
    check(target, range(6))
    assert target.unlike_its_dataset() == []


def nested(kinds: Sequence[str]) -> tuple[dict[str, Any], Any]:
    """Return a declaration that nests so, the inmost first, and a value of it."""
    one: dict[str, Any] = {"type": "long"}
    value: Any = 2**53 + 1
    for kind in kinds:
        held, value = {
            "struct": ({"fields": {"a": one}}, {"a": value}),
            "array": ({"element": one}, [value]),
            "map": ({"value": one}, [("k", value)]),
        }[kind]
        one = {"type": kind, "required": False, **held}
    return one, value


@pytest.mark.parametrize("kind", list(SINKS))
def test_what_nests_as_deep_as_may_be_arrives_as_it_is(target_of: Targets, feed: Feed, kind: str) -> None:
    """32 structs, and 16 levels with six arrays and maps among them: the most that feeds/depth.py lets through."""
    structs, mixed = nested(["struct"] * 32), nested([*["array", "map", "struct"] * 3, *["struct"] * 7])
    target = target_of(kind)
    target.declare(declared(feed, {"structs": structs[0], "mixed": mixed[0]}))
    target.write([silver_row(0), silver_row(1, structs=structs[1], mixed=mixed[1])])
    target.drain()
    check(target, range(2))
    assert target.unlike_its_dataset() == []


def test_every_type_is_read_by_spark_pandas_and_duckdb(target_of: Targets, feed: Feed, spark: SparkSession) -> None:
    """From the files alone, as somebody does who does not know the project."""
    target = target_of("lake")
    write_ends(target, feed)
    target.drain()
    (file,) = target.flow.files()
    expected = pq.ParquetFile(file.path).read()
    assert expected.num_rows == 6
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        by_duckdb = connection.read_parquet(str(file.path)).to_arrow_table()
    with file.path.open("rb") as opened:  # by its path there would be the column of its folder, too
        # by default pandas makes doubles of a long where one row has none (docs/outputs.md)
        by_pandas = pa.Table.from_pandas(pd.read_parquet(opened, dtype_backend="pyarrow"))
    for found in (spark.read.parquet(str(file.path)).toArrow(), by_duckdb, by_pandas):
        assert found.column_names == expected.column_names
        assert found.to_pylist() == expected.to_pylist()


@pytest.mark.parametrize(
    ("kind", "keys"), [*(pytest.param(*one.values, {}, marks=one.marks) for one in FEWER), ("delta", {"fresh": True})]
)
def test_what_is_final_arrives_and_what_is_late_does_not_change_it(
    target_of: Targets, kind: str, keys: dict[str, Any]
) -> None:
    """Windows: of a sink that follows their files, and of one with a query of its own."""
    target = target_of(kind, "gold", **keys)
    target.write([silver_row(number, number) for number in range(3)])
    target.write([silver_row(3, 600)])  # moves the watermark
    target.write([silver_row(4, 601)])
    with target.running("gold") as take_gold:
        take_gold()
        with target.running() as take:
            take()
            target.write([silver_row(5, 2)])  # too late for the first window
            target.write([silver_row(6, 602)])
            take_gold()
            take()
    final = [row for row in target.rows() if row.get("final", True)]
    assert Counter(row["card_id"] for row in final) == {f"card-{number}": 1 for number in range(3)}
    assert {row["txn_count"] for row in final} == {1}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_of_two_services_on_one_target_the_first_one_is_refused(target_of: Targets, kind: str) -> None:
    """Where a target has one owner. A topic has many writers, and a folder is of one OUTPUT_PATH."""
    first, second = target_of(kind), target_of(kind, root="another")
    for target in (first, second):
        target.write(batch(0))
        target.drain()
    first.write(batch(3))
    if first.sink.claims:
        with pytest.raises(ConfigError, match="make reset"):
            first.drain()
    else:
        first.drain()
    check(second, range(6 if first.sink.topics else 3), sent_again=1)


@pytest.mark.parametrize("of", ["bronze", "quarantine"])
def test_records_as_they_came_arrive_byte_for_byte(target_of: Targets, kind: str, of: str) -> None:
    """Binary values, lists and structs too."""
    target = target_of(kind, of)
    value, place = b"\xff\0\x80{", {"topic": "transactions", "partition": 0, "kafka_ts": silver_row(0)["kafka_ts"]}
    own: dict[str, Any] = {"headers": [{"key": "h", "value": b"\xfe"}, {"key": "n", "value": None}]}
    if of == "quarantine":
        own = {"value_text": "\ufffd\0{", "reasons": ["not_json"]}
    target.write([{"key": "k", "value": value, "offset": number, **place, **own} for number in range(3)], of)
    target.drain()
    found = target.rows()
    assert sorted(row["offset"] for row in found) == [0, 1, 2]
    assert {row["value"] for row in found} <= {value, "/wCAew=="}
