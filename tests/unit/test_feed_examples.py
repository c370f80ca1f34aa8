"""The shipped feeds make of their examples what the examples say, and these leave out nothing that a feed can do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.fields import Field
from stream_app.feeds.load import feeds_in, load_feeds
from stream_app.ops.examples.made import datasets
from stream_app.ops.feed_test import cases, feed_test
from stream_app.settings import PROJECT
from tests.unit.conftest import Cli

SHIPPED = PROJECT / "conf" / "feeds"
NAMES = feeds_in(SHIPPED)
FEEDS = {feed.name: feed for feed in load_feeds(SHIPPED, NAMES)}
ALL = [folder for name in NAMES for folder in cases(SHIPPED, name)]


@pytest.fixture
def feeds(tmp_path: Path) -> Path:
    """A folder with transactions, and one case: a valid record and one that is none."""
    shutil.copy(SHIPPED / "transactions.toml", tmp_path)
    case = tmp_path / "transactions.tests" / "one"
    case.mkdir(parents=True)
    valid, *_ = (SHIPPED / "transactions.tests" / "repeats" / "input.jsonl").read_text().splitlines()
    (case / "input.jsonl").write_text(f'{valid}\n\n{{"text": "x"}}\n')
    feed_test(tmp_path, accept=True)
    return tmp_path


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_examples_are_as_expected() -> None:
    tested = feed_test(SHIPPED)
    assert [(case.feed, case.name, case.differences) for case in tested.cases] == [
        (folder.parent.name.removesuffix(".tests"), folder.name, ()) for folder in ALL
    ]
    assert tested.without == ()


def reasons(feed: Feed) -> Iterator[str]:
    """Every reason that the contract can give."""
    yield from ("empty", "not_json", "not_object", "late", "future")
    for column, field in feed.fields.items():
        yield from reasons_of(field, ".".join(feed.path_of(column)))


def reasons_of(field: Field, path: str) -> Iterator[str]:
    if field.required:
        yield f"missing:{path}"
    yield f"bad_type:{path}"
    if field.type == "timestamp":
        yield f"bad_time:{path}"
    if field.length or field.is_number:
        yield f"out_of_range:{path}"
    if field.allowed or field.pattern:
        yield f"not_allowed:{path}"
    if field.references:
        yield f"unknown:{path}"
    if field.element:
        yield from reasons_of(field.element, f"{path}[]")
    for name, inner in (field.fields or {}).items():
        yield from reasons_of(inner, f"{path}.{name}")


@pytest.mark.parametrize("name", NAMES)
def test_there_is_an_example_of_every_reason(name: str) -> None:
    files = (SHIPPED / f"{name}.tests").glob("*/quarantine.jsonl")
    shown = {str(reason) for file in files for row in lines(file) for reason in row["reasons"]}  # type: ignore[attr-defined]
    assert shown == {*reasons(FEEDS[name])}


@pytest.mark.parametrize("name", NAMES)
def test_there_is_an_example_of_rows_of_every_dataset(name: str) -> None:
    shown = {file.stem for file in (SHIPPED / f"{name}.tests").glob("*/*.jsonl")}
    assert shown == {"input", *datasets(FEEDS[name])}


def test_what_is_not_expected_is_a_diff_and_a_file_that_is_not_there_expects_nothing(feeds: Path, cli: Cli) -> None:
    case = feeds / "transactions.tests" / "one"
    silver, quarantine = case / "silver.jsonl", case / "quarantine.jsonl"
    silver.write_text(silver.read_text().replace('"amount": 12.5', '"amount": 12.6'))
    quarantine.unlink()
    done = cli(feeds, "feed-test", "--feed=transactions", FEEDS_PATH=str(feeds))
    assert (done.code, done.err) == (1, "")
    changed = [line for line in done.out.splitlines() if line[:1] in "+-" and line[:3] not in {"+++", "---"}]
    assert [(line[0], '"amount": 12.6' in line, '"reasons": ["not_json"]' in line) for line in changed] == [
        ("+", False, True),
        ("-", True, False),
        ("+", False, False),
    ]
    assert "--- silver.jsonl (expected)\n+++ silver.jsonl (made)\n" in done.out
    assert done.out.startswith("transactions/one: 2 records, DIFFERS\n")


def test_accept_shows_the_diff_and_writes_what_is_made(feeds: Path, cli: Cli) -> None:
    case = feeds / "transactions.tests" / "one"
    before = {file.name: file.read_text() for file in case.iterdir()}
    (case / "silver.jsonl").unlink()
    (case / "gold.jsonl").write_text("{}\n")
    done = cli(feeds, "feed-test", "--accept", FEEDS_PATH=str(feeds))
    assert (done.code, done.err) == (0, "")
    assert "-{}" in done.out
    assert {file.name: file.read_text() for file in case.iterdir()} == before
    done = cli(feeds, "feed-test", FEEDS_PATH=str(feeds))
    assert (done.code, done.out) == (0, "transactions/one: 2 records, as expected\n")


def test_how_a_row_is_spelled_is_no_difference(feeds: Path) -> None:
    silver = feeds / "transactions.tests" / "one" / "silver.jsonl"
    (row,) = lines(silver)
    text = json.dumps(dict(reversed(row.items())), ensure_ascii=True, separators=(" ,", ":  "))
    silver.write_text("\n" + text.replace('"amount":  12.5', '"amount":1.250e1') + "\n\n")
    assert not feed_test(feeds).differs


def test_as_json_a_case_has_its_differences(feeds: Path, cli: Cli) -> None:
    (feeds / "transactions.tests" / "one" / "silver.jsonl").unlink()
    done = cli(feeds, "feed-test", "--format=json", FEEDS_PATH=str(feeds))
    (case,) = json.loads(done.out)["cases"]
    assert (done.code, case["feed"], case["name"], case["records"]) == (1, "transactions", "one", 2)
    (difference,) = case["differences"]
    assert difference["file"].endswith("one/silver.jsonl")


WRONG = {
    "{": "Input data was truncated",
    '{"valeu": {}}': "Object contains unknown field `valeu`",
    '{"value": {}, "text": ""}': "has more than one of value, text and base64",
    '{"base64": "?"}': "Invalid base64 encoded string",
    '{"partition": -1}': "Expected `int` >= 0",
    '{"kafka_ts": "noon"}': 'kafka_ts: "noon" is no time such as',
    '{"kafka_ts": "2026-01-01T00:00:00.0001Z"}': "Kafka's timestamps are whole milliseconds",
    '{"batch": 2}\n{"batch": 1}': "batch: 1 comes after 2",
}


@pytest.mark.parametrize(("line", "problem"), WRONG.items(), ids=WRONG.values())
def test_a_mistake_in_an_example_is_one_line_with_its_place(feeds: Path, cli: Cli, line: str, problem: str) -> None:
    file = feeds / "transactions.tests" / "one" / "input.jsonl"
    file.write_text(f'{{"value": {{}}}}\n{line}\n')
    done = cli(feeds, "feed-test", FEEDS_PATH=str(feeds))
    assert (done.code, done.out) == (2, "")
    (told,) = done.err.splitlines()
    assert told.startswith(f"feed-test: {file}:{2 + line.count(chr(10))}: ")
    assert problem in told


def test_an_expectation_of_nothing_that_the_feed_has_is_refused(feeds: Path) -> None:
    case = feeds / "transactions.tests" / "one"
    (case / "golden.jsonl").touch()
    with pytest.raises(
        ConfigError, match=r"golden\.jsonl: the feed has no such dataset; it has quarantine, silver, gold,"
    ):
        feed_test(feeds)
    (case / "golden.jsonl").rename(case / "gold.jsonl")
    (case / "gold.jsonl").write_text("\nx\n")
    with pytest.raises(ConfigError, match=r"gold\.jsonl:2: is no JSON"):
        feed_test(feeds)


def test_a_feed_without_examples_is_named(feeds: Path) -> None:
    shutil.rmtree(feeds / "transactions.tests")
    assert feed_test(feeds).without == ("transactions",)
    with pytest.raises(ConfigError, match=r"transactions\.tests: the feed has no examples"):
        feed_test(feeds, "transactions")
    (feeds / "transactions.tests" / "empty").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"empty/input\.jsonl: No such file"):
        feed_test(feeds)


def test_a_record_has_its_event_time_for_kafka_s_unless_it_says_so(feeds: Path) -> None:
    file = feeds / "transactions.tests" / "one" / "input.jsonl"
    at = {"event_ts": "2026-05-05T10:00:00.1239Z"}
    given = [{}, {"value": at}, {"value": {**at, "amount": "x"}}, {"text": "x"}, {"kafka_ts": "2026-05-05T11:00Z"}]
    file.write_text("".join(f"{json.dumps(one)}\n" for one in given))
    feed_test(feeds, accept=True)
    rows = lines(file.with_name("quarantine.jsonl"))
    start, own = "2026-01-01T00:00:00Z", "2026-05-05T10:00:00.123Z"
    assert [row["kafka_ts"] for row in rows] == [start, own, own, own, "2026-05-05T11:00:00Z"]


def test_an_event_time_of_kafka_s_own_and_undeclared_fields_that_are_refused(feeds: Path) -> None:
    file = feeds / "transactions.toml"
    declared = file.read_text()
    input_ = feeds / "transactions.tests" / "one" / "input.jsonl"
    input_.write_text('{"value": {"event_ts": "2026-05-05T10:00:00Z", "other": 1}}\n')
    file.write_text(declared + '[wire]\nunknown = "quarantine"\n')
    feed_test(feeds, accept=True)
    (row,) = lines(input_.with_name("quarantine.jsonl"))
    assert row["kafka_ts"] == "2026-05-05T10:00:00Z"
    file.write_text(declared.replace('field = "event_time"', 'field = "kafka_ts"'))
    feed_test(feeds, accept=True)
    (row,) = lines(input_.with_name("quarantine.jsonl"))
    assert row["kafka_ts"] == "2026-01-01T00:00:00Z"


def test_it_starts_no_java() -> None:
    environment = {"PATH": "/nowhere", "JAVA_HOME": "/nowhere"}
    command = [sys.executable, "-m", "stream_app", "feed-test"]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(ALL)
