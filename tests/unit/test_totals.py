"""Totals: what may be declared, what an example makes of them, and that the audit adds silver up again."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from stream_app.feeds.feed import Feed
from stream_app.feeds.load import checked
from stream_app.feeds.schema import PROVENANCE
from stream_app.flows.flow import Flow
from stream_app.layers.registry import datasets
from stream_app.sinks.delta import DeltaSink
from stream_app.sinks.kept_by_key import Totalled
from stream_app.sinks.postgres import PostgresSink
from stream_app.sinks.registry import SINKS, check
from stream_app.storage.offsets import LayerOffset
from tests.examples import examples
from tests.helpers import Row
from tests.outputs import Output, Record
from tests.unit.audited import at, found, lines
from tests.unit.conftest import Cli

FEED = """
topic = "sales"
[fields.id]
type = "string"
[fields.at]
type = "timestamp"
[fields.shop]
type = "string"
required = false
[fields.day]
type = "date"
[fields.sum]
type = "decimal(18,2)"
range = [0, 1_000_000]
[fields.count]
type = "long"
range = [0, 100]
[fields.balance]
type = "long"
[fields.weight]
type = "double"
[event_time]
field = "at"
lateness = "1 hour"
future_tolerance = "1 hour"
[dedupe]
key = "id"
within = "1 hour"
[totals.by_shop]
keys = ["shop", "day"]
measures = { total = "sum(sum)", mean = "avg(sum)", pieces = "sum(count)", sales = "count", least = "min(sum)" }
[totals.best]
keys = ["shop"]
measures = { total = "sum(sum)", balance = "sum(balance)", weight = "sum(weight)" }
top = { by = "total", most = 2 }
[sinks.by_shop_table]
of = "by_shop"
to = "postgres"
table = "by_shop"
[sinks.best_table]
of = "best"
to = "postgres"
table = "best"
"""


def declared() -> dict[str, Any]:
    return tomllib.loads(FEED, parse_float=Decimal)


def problems(change: Callable[[dict[str, Any]], Any]) -> list[tuple[str, str]]:
    whole = declared()
    change(whole)
    feed, found = checked("sales", whole)
    return list(check(feed)) if feed else found


@pytest.mark.parametrize(
    ("change", "key", "problem"),
    [
        ({"keys": []}, "totals.best.keys", "is empty"),
        ({"keys": ["shop", "shop"]}, "totals.best.keys", "names a column twice"),
        ({"keys": ["x"]}, "totals.best.keys", '"x" is not a declared field'),
        ({"measures": {}}, "totals.best.measures", "is empty"),
        ({"measures": {"shop": "count", "total": "count"}}, "totals.best.measures.shop", "of this name already"),
        ({"measures": {"total": "distinct(day)"}}, "totals.best.measures.total", "grows with every value"),
        ({"measures": {"total": "start"}}, "totals.best.measures.total", "totals have no start"),
        ({"measures": {"total": "sum(shop)"}}, "totals.best.measures.total", "shop is a string, not a number"),
        ({"where": {"sum": "x"}}, "totals.best.where.sum", "not a string"),
        ({"top": {"by": "x", "most": 1}}, "totals.best.top.by", '"x" is not a measure'),
        ({"top": {"by": "balance", "most": 1}}, "totals.best.top.by", "balance may be negative; give that a range"),
        ({"top": {"by": "weight", "most": 1}}, "totals.best.top.by", "may fall, or is rounded"),
        ({"top": {"by": "total", "most": 0}}, "totals.best.top.most", "greater than or equal to 1"),
        ({"watermark": "1 minute"}, "totals.best.watermark", "unknown key"),
    ],
)
def test_what_totals_cannot_be_is_named_by_its_key(change: dict[str, Any], key: str, problem: str) -> None:
    found = problems(lambda whole: whole["totals"]["best"].update(change))
    assert [text for one, text in found if one == key and problem in text], found


def test_totals_are_kept_where_rows_are_kept_by_key_and_nowhere_else() -> None:
    assert problems(dict) == []
    ((key, problem),) = problems(lambda whole: whole["sinks"].pop("best_table"))
    assert (key, 'no sink keeps it; declare one of = "best" to' in problem) == ("totals.best", True)
    for kind in SINKS.keys() - {name for name, sink in SINKS.items() if sink.keeps_by_key}:
        table = {"best_table": {"of": "best", "to": kind}}
        ((key, problem),) = problems(partial(_with_sinks, table))
        assert key == "sinks.best_table.of"
        assert f"best changes its rows, and {kind} only adds some; keep it in" in problem


def _with_sinks(sinks: dict[str, Any], whole: dict[str, Any]) -> None:
    whole["sinks"] |= sinks


def test_their_sums_have_room_for_years_of_records() -> None:
    feed = Feed.model_validate(declared() | {"name": "sales"})
    types = {
        one.name: one.dataType.simpleString() for kind in ("by_shop", "best") for one in datasets(feed)[kind].columns
    }
    assert types == {
        "shop": "string",
        "day": "date",
        "total": "decimal(28,2)",
        "mean": "decimal(22,6)",
        "pieces": "bigint",
        "sales": "bigint",
        "least": "decimal(18,2)",
        "balance": "decimal(38,0)",
        "weight": "double",
    }


def record(number: int, **changed: object) -> Record:
    fields = {"id": f"r{number}", "at": at(number).isoformat(), "shop": "a", "day": "2026-11-27", "sum": 1, "count": 2}
    return Record(json.dumps({**fields, "balance": -3, "weight": 0.1, **changed}).encode(), at(number))


def batches() -> list[list[Record]]:
    return [
        [record(0), record(1, shop="b", sum=2.5), record(2, shop=None, sum=9), Record(b"x", at(2))],
        [record(3, shop="c", sum=2.5), record(1), record(4, day="2026-11-28", sum=0.05)],
        [record(5, shop="a\0", sum=1), record(6, shop="a\ufffd", sum=1), record(7, shop="b", sum=0)],
    ]


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Output:
    """An output with totals, whose tables are what DuckDB adds up of the rows."""
    output = Output(Feed.model_validate(declared() | {"name": "sales"}), tmp_path)
    for number, records in enumerate(batches()):
        output.take(records, at(number + 10))

    def copy(_: PostgresSink, connection: duckdb.DuckDBPyConnection, flow: Flow, _servers: object) -> LayerOffset:
        columns = to_arrow_schema(flow.kind.columns, timezone="UTC")
        rows = [{key: _stored(one) for key, one in row.items()} for row in output.tables[flow.sink]]
        connection.register("_copied", pa.Table.from_pylist(rows, columns))
        connection.execute(f'CREATE TABLE "sales"."{flow.sink}" AS FROM _copied')
        return LayerOffset(batch=output.tables["taken"][0]["batch"])

    monkeypatch.setattr(PostgresSink, "copy_into", copy)
    for flow in output.flows.values():
        if flow.kind.running:
            output.tables[flow.sink] = totals(output.silver, flow)
    output.tables["taken"] = [{"batch": 2}]
    return output


def _stored(value: object) -> object:
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def totals(rows: list[Row], flow: Flow) -> list[Row]:
    """Those rows added up by Python."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in flow.kind.running.keys), []).append(row)  # type: ignore[union-attr]
    found = []
    for key, own in groups.items():
        sums = [one["sum"] for one in own]
        mean = (sum(sums) / len(own)).quantize(Decimal("1e-6"))
        measures = {"total": sum(sums), "mean": mean, "pieces": 2 * len(own), "sales": len(own), "least": min(sums)}
        measures |= {"balance": Decimal(-3 * len(own)), "weight": sum(one["weight"] for one in own)}
        row = dict(zip(flow.kind.running.keys, key, strict=True)) | measures  # type: ignore[union-attr]
        found.append({name: row[name] for name in flow.kind.columns.names})
    if flow.kind.name == "best":
        found.sort(key=lambda row: (-row["total"], row["shop"] is None, (row["shop"] or "").encode()))
        return found[:2]
    return found


def test_the_audit_adds_silver_up_again(output: Output) -> None:
    report = found(output)
    assert lines(report) == ""
    assert (report.counts["by_shop_table"], report.counts["best_table"]) == (7, 2)
    assert [(row["shop"], row["total"]) for row in output.tables["best_table"]] == [
        (None, Decimal("9.00")),
        ("b", Decimal("2.50")),  # as much as c
    ]


@pytest.mark.parametrize(
    ("sink", "change"),
    [
        ("by_shop_table", lambda rows: rows[1:]),
        ("by_shop_table", lambda rows: [rows[0] | {"total": Decimal("0.99")}, *rows[1:]]),
        ("by_shop_table", lambda rows: [rows[0] | {"mean": Decimal("0.99")}, *rows[1:]]),
        ("by_shop_table", lambda rows: [rows[0] | {"pieces": 3}, *rows[1:]]),
        ("by_shop_table", lambda rows: [*rows, rows[0]]),
        ("best_table", lambda rows: [rows[0], rows[1] | {"shop": "c"}]),
        ("best_table", lambda rows: rows[:1]),
        ("best_table", lambda rows: [rows[0] | {"balance": Decimal(-4)}, rows[1]]),
    ],
)
def test_the_audit_finds_any_row_that_is_not_what_silver_adds_up_to(
    output: Output, sink: str, change: Callable[[list[Row]], list[Row]]
) -> None:
    output.tables[sink] = change(output.tables[sink])
    assert f"{sink} is not what silver's totals are" in lines(found(output))


def test_a_table_that_has_not_come_as_far_is_compared_with_what_it_has_taken(output: Output) -> None:
    """Its own position counts, which it has in the same transaction: beside a running service it is always another."""
    output.tables["taken"] = [{"batch": 1}]
    assert "by_shop_table is not what silver's totals are" in lines(found(output))
    first_two = [row for row in output.silver if row["id"] not in {"r5", "r6", "r7"}]
    for flow in output.flows.values():
        if flow.kind.running:
            output.tables[flow.sink] = totals(first_two, flow)
    assert lines(found(output)) == ""


def test_an_example_has_totals(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "sales.toml").write_text(FEED)
    case = tmp_path / "sales.tests" / "case"
    case.mkdir(parents=True)
    records = [one.value.decode() for records in batches() for one in records if one.value and one.value != b"x"]
    (case / "input.jsonl").write_text("".join(f'{{"value": {one}}}\n' for one in records))
    cli(tmp_path, "feed-test", "--accept", FEEDS_PATH=str(tmp_path))
    best = [json.loads(line) for line in (case / "best.jsonl").read_text().splitlines()]
    assert best == [
        {"shop": None, "total": 9, "balance": -3, "weight": 0.1},
        {"shop": "b", "total": 2.5, "balance": -6, "weight": 0.2},
    ]
    by_shop = [json.loads(line) for line in (case / "by_shop.jsonl").read_text().splitlines()]
    assert [row["shop"] for row in by_shop] == ["a", "a", "a\0", "a\ufffd", "b", "c", None]
    assert by_shop[4] == {
        "shop": "b", "day": "2026-11-27", "total": 2.5, "mean": 1.25, "pieces": 4, "sales": 2, "least": 0
    }  # fmt: skip


# As a Delta table, whose tasks read what is held


@pytest.mark.parametrize(
    ("of", "keys", "key", "problem"),
    [
        ("best", {"partition_by": "shop"}, "partition_by", "the first rows of best are few"),
        ("by_shop", {"partition_by": "shop"}, "partition_by", "shop may be empty, which is null in a partition"),
        ("by_shop", {"partition_by": "sales"}, "partition_by", '"sales" is not a key of by_shop'),
        ("by_shop", {"partition_by": "date(at)"}, "partition_by", "is not a time of by_shop"),
        ("by_shop", {"fresh": True}, "fresh", "by_shop always is; leave it out"),
        ("by_shop", {"text": True}, "text", "by_shop has no column value without its text"),
        ("quarantine", {"text": True}, "text", "quarantine has no column value without its text"),
        ("by_shop", {"partition_by": "day"}, "", ""),
        ("bronze", {"text": True}, "", ""),
    ],
)
def test_what_a_delta_table_cannot_be_is_named_by_its_key(
    of: str, keys: dict[str, Any], key: str, problem: str
) -> None:
    found = problems(partial(_with_sinks, {"x": {"of": of, "to": "delta", **keys}}))
    assert [one for one, text in found if problem in text] == ([f"sinks.x.{key}"] if key else []), found


BATCHES = st.lists(st.lists(st.tuples(st.sampled_from([None, "", "a", "b", "é", "\U0001f600"]), st.integers(0, 3))))


@examples(100)
@given(BATCHES, st.integers(1, 4))
def test_the_first_of_those_held_and_those_changed_are_the_first_of_all(
    batches: list[list[tuple[str | None, int]]], most: int
) -> None:
    """What `top` relies on: the measure of no key ever falls."""
    columns = pa.schema([("shop", pa.string()), ("total", pa.int64())])
    kept = Totalled(columns, ("shop",), 'total DESC NULLS LAST, "shop" ASC NULLS LAST', most)
    held, every = columns.empty_table(), dict[str | None, int]()
    for batch in batches:
        for shop, sold in batch:
            every[shop] = every.get(shop, 0) + sold
        changed = [{"shop": shop, "total": every[shop]} for shop in dict.fromkeys(shop for shop, _ in batch)]
        held = kept.merged(held, pa.Table.from_pylist(changed, columns))
        ranked = sorted(every.items(), key=lambda one: (-one[1], one[0] is None, (one[0] or "").encode()))
        assert [(row["shop"], row["total"]) for row in held.to_pylist()] == ranked[:most]


def test_the_text_of_a_record_is_beside_its_bytes() -> None:
    sink = DeltaSink.model_validate({"of": "bronze", "to": "delta", "text": True})
    bronze = datasets(Feed.model_validate(declared() | {"name": "sales"}))["bronze"]
    values = [b'{"a": 1}', b"\xff\xc3\xa9", b"", None]
    place = {"kafka_ts": at(0), "topic": "sales", "partition": 0}
    rows = [{"key": "k", "value": one, "headers": None, **place, "offset": n} for n, one in enumerate(values)]
    columns = to_arrow_schema(StructType([*bronze.columns, *PROVENANCE]), timezone="UTC")
    found = sink.reading(bronze).function(pa.RecordBatch.from_pylist(rows, columns))
    assert found["value"].to_pylist() == values
    assert found["value_text"].to_pylist() == ['{"a": 1}', "\ufffdé", "", None]
    assert sink.rows_of(bronze).names == [*bronze.columns.names, "value_text", *PROVENANCE.names]
