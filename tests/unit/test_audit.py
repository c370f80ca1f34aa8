"""make audit finds what is wrong: every part of it is shown to notice, and to be content with what is right."""

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.errors import StreamAppError
from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.ops import views
from stream_app.ops.audit import Report
from stream_app.ops.audit.steps import Audit
from stream_app.sinks.registry import flows as planned
from stream_app.storage.batch_files import BatchFile, batch_file
from stream_app.storage.layout import LATE
from tests.helpers import (
    START_MS,
    Row,
    at,
    bronze_row,
    commit,
    plan,
    reconciled,
    silver_row,
    value,
    write_layer,
)
from tests.unit.conftest import Cli

Flows = dict[str, Flow]


LATE_ROW = silver_row(5, 1, kafka_ts=at(1))
FIRST = [silver_row(0), silver_row(3, 20, merchant="=1+1")]
SECOND = [silver_row(2, 1800, merchant='a "b",\r\nc')]
THIRD = [LATE_ROW]
ALL = [*FIRST, *SECOND, *THIRD]


def record(row: Row) -> Row:
    """The record of bronze that silver's row came from."""
    seconds = (row["event_time"] - at(0)).total_seconds()
    return bronze_row(row["offset"], value(row["offset"], seconds, merchant=row["merchant"]), seconds)


@pytest.fixture
def flows(feed: Feed, tmp_path: Path) -> Flows:
    """A feed in order, in three batches.

    Two valid records of 01:00 and a refused one; one of 01:30; one that comes too late for gold, and a repeat.
    """
    flows = {flow.sink: flow for flow in planned([feed], tmp_path)}
    write_layer(flows["bronze"], 0, [*map(record, FIRST), bronze_row(7, b"x")])
    write_layer(flows["bronze"], 1, [*map(record, SECOND)])
    write_layer(flows["bronze"], 2, [*map(record, THIRD), bronze_row(8, value(0, 3), 3)])
    write_layer(flows["silver"], 0, FIRST)
    write_layer(flows["silver"], 1, SECOND)
    write_layer(flows["silver"], 2, THIRD)
    write_layer(flows["quarantine"], 0, [refused(7)])
    write_gold(flows, [gold_row(0, "card-0", 2)])
    write_late(flows, [LATE_ROW])
    write_csv(flows, ALL)
    for flow in flows.values():
        for batch in range(3):
            advance(flow, batch)
    return flows


def advance(flow: Flow, batch: int) -> None:
    """Plan and commit a batch of the flow, which takes the batch of that number."""
    end: dict[str, Any] = {"batch": batch, "clock": START_MS * 1000, "replay": -1}
    watermark_ms = START_MS + 1_500_000 if batch > 1 else 0
    plan(flow, batch, end if flow.upstream else {"transactions": {"0": 9}}, watermark_ms=watermark_ms)
    commit(flow, batch)


def refused(offset: int, record: bytes = b"x") -> Row:
    """What quarantine holds of a record that is no JSON."""
    return bronze_row(offset, record) | {"value_text": record.decode(errors="replace"), "reasons": ["not_json"]}


def gold_row(seconds: float, card: str, count: int, amount: str = "12.50") -> Row:
    money = {"sum_amount": Decimal(amount) * count, "avg_amount": Decimal(amount), "max_amount": Decimal(amount)}
    return {
        "window_start": at(seconds),
        "window_end": at(seconds) + timedelta(minutes=1),
        "card_id": card,
        "txn_count": count,
        **money,
    }


def write_gold(flows: Flows, rows: list[Row]) -> None:
    time = pa.timestamp("us", "UTC")
    types = [time, time, pa.string(), pa.int64(), pa.decimal128(28, 2), pa.decimal128(22, 6), pa.decimal128(18, 2)]
    schema = pa.schema(zip(gold_row(0, "", 1), types, strict=True))
    path = batch_file(flows["gold"].layout.output, "gold", "parquet", START_MS, 0).path
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), path)


def write_late(flows: Flows, rows: list[Row], start: float = 0) -> None:
    folder = flows["gold"].layout.late
    folder.mkdir(parents=True, exist_ok=True)
    columns = to_arrow_schema(schema.silver(flows["gold"].feed), timezone="UTC")
    times = [pa.field(name, pa.timestamp("us", "UTC")) for name in ("window_start", "window_end")]
    table = [{"window_start": at(start), "window_end": at(start + 60), **row} for row in rows]
    target = batch_file(folder, LATE, "parquet", START_MS, 1).path
    pq.write_table(pa.Table.from_pylist(table, pa.schema([*times, *columns])), target)


def write_csv(flows: Flows, rows: list[Row]) -> None:
    def cell(value: object) -> str:
        text = f"{value:%Y-%m-%dT%H:%M:%S.%fZ}" if hasattr(value, "year") else str(value)
        text = f"'{text}" if isinstance(value, str) and text[0] in "=+-@" else text
        return '"' + text.replace('"', '""') + '"' if set(text) & set('",\r\n') else text

    flow = flows["raw_csv"]
    lines = [",".join(flow.feed.fields), *(",".join(cell(row[name]) for name in flow.feed.fields) for row in rows)]
    path = batch_file(flow.layout.output, "raw_csv", "csv", START_MS, 0).path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\r\n" for line in lines), newline="")


def wrong(flows: Flows) -> str:
    bronze = flows["bronze"]
    return "\n".join(reconciled(bronze).wrong)


def test_what_is_in_order_has_nothing_wrong(flows: Flows) -> None:
    report = reconciled(flows["bronze"])
    assert report.wrong == []
    expected = {
        "bronze": 6,
        "silver": 4,
        "quarantine": 1,
        "late": 1,
        "gold": 1,
        "raw_csv": 4,
        "pending": 0,
        "repeats": 1,
    }
    assert report.counts == expected | {"replayed": 0, "offsets without a record in bronze": 3}


def again(flow: Flow, rows: list[Row], batch: int = 3) -> None:
    """A further batch of the flow, committed."""
    write_layer(flow, batch, rows)
    advance(flow, batch)


MISTAKES: dict[str, tuple[Callable[[Flows], object], str]] = {
    "bronze twice": (lambda f: again(f["bronze"], [bronze_row(0, value(0))]), "doubled in bronze: 1, (0, 0)"),
    "silver twice": (lambda f: again(f["silver"], [silver_row(0)]), "doubled in silver: 1, (0, 0)"),
    "quarantine twice": (lambda f: again(f["quarantine"], [refused(7)]), "doubled in quarantine: 1, (0, 7)"),
    "in both": (lambda f: again(f["quarantine"], [refused(0)]), "in silver and in quarantine: 1, (0, 0)"),
    "silver lost": (lambda f: write_layer(f["silver"], 0, [silver_row(0)]), "lost: "),
    "quarantine lost": (
        lambda f: write_layer(f["quarantine"], 0, []),
        "lost: in bronze, not in silver or quarantine, and no repeat: 1, (0, 7)",
    ),
    "not of bronze": (lambda f: again(f["silver"], [silver_row(99)]), "in silver, not in bronze: 1, (0, 99)"),
    "gold lost": (lambda f: write_gold(f, []), "gold is not what"),
    "gold by a cent": (lambda f: write_gold(f, [gold_row(0, "card-0", 2, "12.51")]), "gold is not what"),
    "gold too early": (
        lambda f: write_gold(f, [gold_row(0, "card-0", 2), gold_row(1800, "card-2", 1)]),
        "gold is not what",
    ),
    "gold null": (lambda f: write_gold(f, [gold_row(0, "card-0", 2) | {"sum_amount": None}]), "gold is not what"),
    "gold's average null": (
        lambda f: write_gold(f, [gold_row(0, "card-0", 2) | {"avg_amount": None}]),
        "gold is not what",
    ),
    "gold's end": (
        lambda f: write_gold(f, [gold_row(0, "card-0", 2) | {"window_end": at(120)}]),
        "gold is not what",
    ),
    "gold twice": (lambda f: write_gold(f, [gold_row(0, "card-0", 2)] * 2), "a window of gold is there twice"),
    "csv lost": (lambda f: write_csv(f, [silver_row(0)]), "raw_csv is not silver"),
    "csv other": (lambda f: write_csv(f, [silver_row(0, city="Bonn")]), "raw_csv is not silver"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_is_noticed(flows: Flows, mistake: str) -> None:
    make, expected = MISTAKES[mistake]
    make(flows)
    found = wrong(flows)
    assert expected in found, found


def test_what_a_layer_has_not_taken_yet_is_pending_and_no_loss(flows: Flows) -> None:
    bronze = flows["bronze"]
    again(bronze, [bronze_row(20, value(20)), bronze_row(21, b"x")])
    report = reconciled(bronze)
    assert (report.wrong, report.counts["pending"]) == ([], 2)


def test_files_that_are_merged_away_meanwhile_are_read_to_the_end(
    flows: Flows, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Audit.report

    def after_the_merge(self: Audit) -> Report:
        for path in flows["bronze"].root.rglob("*_000000000[0-2].*"):
            path.unlink()
        return report(self)

    monkeypatch.setattr(Audit, "report", after_the_merge)
    bronze = flows["bronze"]
    found = reconciled(bronze)
    assert (found.wrong, found.counts["bronze"]) == ([], 6)
    assert not bronze.files()


def test_a_merge_across_the_position_that_is_audited_makes_it_begin_again(
    flows: Flows, monkeypatch: pytest.MonkeyPatch
) -> None:
    gold = flows["gold"]
    file = gold.files()[0].path
    merged = file.rename(batch_file(gold.layout.output, "gold", "parquet", START_MS, 0, 3).path)
    with pytest.raises(StreamAppError, match=r"changed 5 times .*3\.parquet holds batches on both sides"):
        wrong(flows)
    listed = Flow.files

    def meanwhile(flow: Flow, after: int = -1, up_to: float = float("inf")) -> list[BatchFile]:
        if flow.sink == "gold":
            plan(flow, 3, {"batch": 2}, watermark_ms=START_MS + 1_500_000)
            commit(flow, 3)
        return listed(flow, after, up_to)

    monkeypatch.setattr(Flow, "files", meanwhile)
    assert wrong(flows) == ""
    assert merged.exists()


def test_a_file_is_opened_once_and_no_more_than_there_is_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.write_text("2")
    with views.OpenFiles() as files:
        monkeypatch.setattr(files, "_room", 1)
        kept = files.path(one)
        assert files.path(one) == kept
        assert files.path(other) == other
        one.unlink()
        assert kept.read_text() == "1"
    assert not kept.exists()


def test_of_many_the_first_twenty_are_listed(flows: Flows) -> None:
    bronze = flows["bronze"]
    again(bronze, [bronze_row(offset, value(offset), partition=1) for offset in range(40, 15, -1)])
    for layer in ("silver", "quarantine"):
        advance(flows[layer], 3)
    listed = " ".join(f"(1, {offset})" for offset in range(16, 36))
    (line,) = [line for line in reconciled(bronze).wrong if line.startswith("lost")]
    assert f": 25, {listed}" in line.replace("), (", ") ("), line
    assert "(1, 36)" not in line


def test_the_exit_code_says_it(flows: Flows, cli: Cli) -> None:
    root = flows["bronze"].root
    done = cli(root, "audit")
    assert (done.code, "nothing lost, nothing twice" in done.out) == (0, True)
    write_gold(flows, [])
    done = cli(root, "audit")
    assert (done.code, "WRONG gold is not what" in done.out) == (1, True)


def test_feeds_that_are_there_and_were_not_looked_at_are_named(flows: Flows, cli: Cli) -> None:
    """On stderr, so that what is printed is as it was; not where one feed is asked for."""
    root = flows["bronze"].root
    assert cli(root, "audit").err == ""
    (root / "sales" / "_chk" / "bronze").mkdir(parents=True)
    (root / "no_feed" / "bronze").mkdir(parents=True)
    done = cli(root, "audit", "--format=json")
    assert done.err == "audit: FEEDS names no sales: not looked at; FEEDS=transactions,sales does\n"
    assert [one["feed"] for one in json.loads(done.out)] == ["transactions"]
    assert done.code == 0
    assert cli(root, "audit", "--feed=transactions").err == ""


def test_each_check_is_told_with_its_verdict_and_the_rows_that_it_is_about(flows: Flows, cli: Cli) -> None:
    """What is right is a check, too: whoever shows them can show that nothing was left out."""
    root = flows["bronze"].root
    (told,) = json.loads(cli(root, "audit", "--format=json").out)
    assert (told["feed"], told["verdict"]) == ("transactions", "right")
    right = {check["name"]: check["rows"] for check in told["checks"] if check["verdict"] == "right"}
    counts = told["counts"]
    assert [*right] == ["places", "records", "gold", "raw_csv", "files"]
    assert (right["records"], right["gold"], right["raw_csv"]) == (counts["bronze"], counts["gold"], counts["raw_csv"])
    assert right["places"] == sum(counts[layer] for layer in ("bronze", "silver", "quarantine", "replayed"))
    assert all(right.values())
    write_gold(flows, [])
    done = cli(root, "audit", "--format=json")
    (told,) = json.loads(done.out)
    (wrong,) = [check for check in told["checks"] if check["verdict"] != "right"]
    assert (done.code, told["verdict"]) == (1, "wrong")
    assert (wrong["name"], wrong["verdict"], wrong["rows"]) == ("gold", "wrong", counts["gold"])
    assert wrong["sentence"].startswith("gold is not what silver's final windows are: ")


def test_one_sink_is_audited_with_what_it_is_made_of(flows: Flows, cli: Cli) -> None:
    root = flows["bronze"].root
    write_gold(flows, [])
    done = cli(root, "audit", "--sink=raw_csv", "--format=json")
    (told,) = json.loads(done.out)
    assert (done.code, [check["name"] for check in told["checks"]]) == (0, ["places", "records", "raw_csv", "files"])
    assert cli(root, "audit", "--sink=silver").code == 0
    assert cli(root, "audit", "--sink=gold").code == 1
    assert cli(root, "audit", "--sink=nothing").code == 2
