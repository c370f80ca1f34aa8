"""make quarantine: what is in quarantine, counted by reason, with the newest records of each."""

import json
from pathlib import Path

import pytest

from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.ops.quarantine import quarantine
from stream_app.ops.views import database
from tests.helpers import Row, at, bronze_row, flow_of, write_layer
from tests.unit.conftest import Cli


def refused(offset: int, text: str, *reasons: str) -> Row:
    return bronze_row(offset, text.encode(), offset) | {"value_text": text, "reasons": list(reasons)}


@pytest.fixture
def held(feed: Feed, tmp_path: Path) -> Flow:
    """Six records with three reasons."""
    flow = flow_of(feed, "quarantine", tmp_path)
    write_layer(flow, 0, [refused(n, f"v{n}", "missing:amount", *(["late"] if n % 2 else [])) for n in range(5)])
    write_layer(flow, 1, [refused(5, "\x1b[2J", "missing:city", "missing:city")])
    return flow


def test_each_reason_is_counted_once_a_record_with_its_newest(held: Flow) -> None:
    (report,) = quarantine(database(), [held])
    assert (report.feed, report.records) == ("transactions", 6)
    counts = [(one.reason, one.records, one.first, one.last) for one in report.reasons]
    assert counts == [
        ("missing:amount", 5, at(0), at(4)),
        ("late", 2, at(1), at(3)),
        ("missing:city", 1, at(5), at(5)),
    ]
    newest = report.reasons[0].samples
    assert [(sample.offset, sample.value, sample.reasons) for sample in newest] == [
        (4, "v4", ("missing:amount",)),
        (3, "v3", ("missing:amount", "late")),
        (2, "v2", ("missing:amount",)),
    ]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("missing", ["missing:amount", "missing:city"]),
        ("missing:city", ["missing:city"]),
        ("miss", []),
        ("late", ["late"]),
    ],
)
def test_a_reason_is_chosen_whole_with_or_without_its_field(held: Flow, reason: str, expected: list[str]) -> None:
    assert [one.reason for one in quarantine(database(), [held], reason)[0].reasons] == expected


def test_what_is_shown_is_not_obeyed_and_json_says_the_same(held: Flow, cli: Cli) -> None:
    shown = cli(held.root, "quarantine")
    assert shown.code == 0
    assert "6 records" in shown.out
    assert "0:5 2026-11-21T01:00:05Z \\x1b[2J" in shown.out
    assert "\x1b" not in shown.out
    (told,) = json.loads(cli(held.root, "quarantine", "--reason=late", "--format=json").out)
    assert [(one["reason"], one["records"], len(one["samples"])) for one in told["reasons"]] == [("late", 2, 2)]


def test_a_reason_that_nothing_has_is_said(held: Flow, cli: Cli) -> None:
    told = cli(held.root, "quarantine", "--reason=foo").out
    assert told == "quarantine of transactions: 6 records, none with the reason foo\n"
    assert cli(held.root / "elsewhere", "quarantine").out == "quarantine of transactions: 0 records\n"
