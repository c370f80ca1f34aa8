"""[dedupe] by several columns, or none: silver, its audit, a replay and feed-test agree what a repeat is."""

from __future__ import annotations

import json
import re
import tomllib
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_app.contract.contract import Contract
from stream_app.contract.verdict import Rejected
from stream_app.feeds import types
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.layers.silver import Silver
from stream_app.ops import replayable, views
from stream_app.ops.audit.report import Verdict
from stream_app.ops.feed_test import feed_test
from stream_app.ops.replay import replay
from stream_app.sinks.registry import flows
from stream_app.storage.batch_files import REPLAY, batch_files
from stream_app.storage.planned import UNBOUNDED
from tests.helpers import write_layer
from tests.outputs import Output
from tests.unit import test_any_feed as any_feed
from tests.unit.audited import FEED, at, edit, found, lines, made, record

ONE = '[dedupe]\nkey = "id"\nwithin = "1 hour"\n'
KEYS = {
    "one": (ONE, 2),
    "a list of one": (ONE.replace('"id"', '["id"]', 1), 2),
    "several": (ONE.replace('"id"', '["id", "order"]', 1), 1),  # of the two one has another order
    "none": ("", 0),
}
LONG_AGO = -7 * 24 * 60
"""Before the files that tests/helpers.py writes."""


@pytest.fixture(params=KEYS)
def case(request: pytest.FixtureRequest) -> tuple[str, int]:
    dedupe, repeats = KEYS[request.param]
    return FEED.replace(ONE, dedupe), repeats


def without_tables(declared: str) -> str:
    return declared.partition("[sinks.postgres_end]")[0]


@pytest.fixture
def output(case: tuple[str, int], tmp_path: Path) -> Output:
    return made(without_tables(case[0]), "main", tmp_path / "output")


def test_the_audit_counts_what_repeats_by_these_columns(output: Output, case: tuple[str, int]) -> None:
    report = found(output)
    assert lines(report) == ""
    assert report.counts["repeats"] == case[1]


def test_the_audit_finds_a_row_that_is_lost_and_no_repeat(output: Output) -> None:
    path = output.paths("silver")[0]
    edit(path, lambda rows: rows[1:])
    (line, *_) = found(output).wrong
    assert re.fullmatch(r"lost: in bronze, not in silver or quarantine, and no repeat: \d, \(0, 0\).*", line)


def test_the_audit_finds_a_repeat_that_was_kept(tmp_path: Path) -> None:
    """By several columns: what one of them would call a repeat is none."""
    declared = without_tables(FEED.replace(ONE, KEYS["several"][0]))
    by_none = made(without_tables(FEED.replace(ONE, "")), "main", tmp_path / "output")
    feed = Feed.model_validate(tomllib.loads(declared, parse_float=Decimal) | {"name": "main"})
    by_none.flows = {flow.sink: flow for flow in flows([feed], by_none.root)}
    report = found(by_none)
    assert report.verdict is Verdict.WRONG
    kept = "silver kept a row though it held one of its key within the time in which repeats are dropped"
    assert f"{kept}: 1, (0, 5)" in report.wrong


def test_a_list_of_one_column_is_that_column_on_disk() -> None:
    states = {}
    for name, (dedupe, _) in KEYS.items():
        feed = tomllib.loads(FEED.replace(ONE, dedupe), parse_float=Decimal)
        states[name] = Silver(Feed.model_validate(feed | {"name": "main"}), "silver").depends_on
    assert states["one"] == states["a list of one"]
    assert states["one"][-2:] == ['{"key":"id","within":"PT1H"}', "sinks/seen.py"]
    assert len({json.dumps(state) for state in states.values()}) == 3


@pytest.mark.parametrize(("dedupe", "kept"), [("one", [0, 1]), ("several", [0, 1, 2]), ("none", [0, 1, 2, 3])])
def test_feed_test_and_a_replay_keep_the_same(tmp_path: Path, dedupe: str, kept: list[int]) -> None:
    """Records of ids a, b, a with another order, and a as at first."""
    (tmp_path / "main.toml").write_text(without_tables(FEED.replace(ONE, KEYS[dedupe][0])))
    records = [record(one, LONG_AGO, order=order) for one, order in (("a", 1), ("b", 1), ("a", 2), ("a", 1))]
    (example := tmp_path / "main.tests" / "keys").mkdir(parents=True)
    given = (
        f'{{"value": {one.value.decode()}, "kafka_ts": "{at(LONG_AGO).isoformat()}"}}\n' for one in records if one.value
    )
    (example / "input.jsonl").write_text("".join(given))
    (tested,) = feed_test(tmp_path, "main", accept=True).cases
    rows = {one.file.stem: one.file.read_text().splitlines() for one in tested.differences}
    assert [json.loads(row)["offset"] for row in rows["silver"]] == kept

    (feed,) = load_feeds(tmp_path, ["main"])
    made = {flow.sink: flow for flow in flows([feed], tmp_path / "output")}
    refused = [
        {"key": "k", "value": one.value, "headers": None, "kafka_ts": one.time, "topic": feed.topic, "partition": 0}
        | {"offset": number, "value_text": "", "reasons": ["not_allowed:first"]}
        for number, one in enumerate(records)
    ]
    write_layer(made["silver"], 0, [])
    write_layer(made["quarantine"], 0, refused)
    (done,) = replay(tmp_path / "output", [*made.values()])
    assert done.failing["repeat of a record that silver holds"] == 4 - len(kept)
    ledger = [pq.read_table(file.path) for file in batch_files(made["silver"].layout.replay, REPLAY)]
    assert [offset for one in ledger for offset in one["offset"].to_pylist()] == kept


def test_a_replay_does_not_take_what_silver_holds_by_several_columns(tmp_path: Path) -> None:
    """Neither (a, 2) nor (b, 1) is held where (a, 1) and (b, 2) are."""
    declared = without_tables(FEED.replace(ONE, KEYS["several"][0]))
    (tmp_path / "main.toml").write_text(declared)
    (feed,) = load_feeds(tmp_path, ["main"])
    made = {flow.sink: flow for flow in flows([feed], tmp_path)}
    place = {"topic": feed.topic, "partition": 0, "kafka_ts": at(0)}
    held = [("a", 1), ("b", 2)]
    columns = [{"id": f"r{one}", "order": Decimal(order), "ts": at(0)} | place for one, order in held]
    write_layer(made["silver"], 0, [row | {"offset": number} for number, row in enumerate(columns)])
    database = views.connect([made["silver"]])
    wanted: list[tuple[object, ...]] = [(f"r{one}", Decimal(order)) for one in "ab" for order in (1, 2)]
    assert replayable.held_keys(database, feed, wanted) >= {("ra", Decimal(1)), ("rb", Decimal(2))}
    assert not {("ra", Decimal(2)), ("rb", Decimal(1))} & replayable.held_keys(database, feed, wanted)


VALUES = {
    "string": "x",
    "boolean": True,
    "int": 5,
    "long": 9007199254740993,
    "float": 0.1,
    "double": 0.1,
    "decimal(9,2)": 1.5,
    "date": "0001-01-01",
    "timestamp": "2026-11-21T01:20:30.5Z",
    "binary": "AP8=",
    "uuid": "0190F0C4-7d1e-7c3a-9f00-00000000000a",
}


def test_each_type_of_a_key_has_a_value_here() -> None:
    scalars = {kind for kind in types.SCALARS if types.SCALARS[kind].json != "any"}
    assert {kind.partition("(")[0] for kind in VALUES} == {*scalars, "decimal"}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("keys", [["k"], ["id", "k"]], ids="+".join)
def test_a_replay_finds_a_key_of_any_type(tmp_path: Path, kind: str, keys: list[str]) -> None:
    """As the contract has its value, and silver its row."""
    feed = any_feed.feed_of({"k": {"type": kind}}, dedupe={"key": keys, "within": "1 hour"})
    given = any_feed.record(k=json.dumps(VALUES[kind]))
    judged = Contract(feed).check(given, any_feed.KAFKA_TS, UNBOUNDED)
    assert not isinstance(judged, Rejected)
    row = dict(zip(feed.columns, judged, strict=True))
    silver = {flow.sink: flow for flow in flows([feed], tmp_path)}["silver"]
    stored = {name: pa.array([row[name]], one.arrow)[0].as_py() for name, one in feed.columns.items()}
    write_layer(silver, 0, [stored | {"topic": feed.topic, "partition": 0, "offset": 0, "kafka_ts": at(0)}])
    key, other = tuple(row[name] for name in keys), tuple("other" if name == "id" else row[name] for name in keys)
    held = replayable.held_keys(views.connect([silver]), feed, [key, other])
    assert held == {key, *([other] if other == key else [])}
