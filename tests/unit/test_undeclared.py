"""Undeclared fields are counted once a record, kept beside the checkpoint of silver, and shown by make drift."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stream_app.contract.undeclared import MOST_PATHS, OTHERS, Undeclared
from stream_app.errors import StreamAppError
from stream_app.feeds.feed import Feed
from stream_app.flows import undeclared
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.flows.undeclared import UndeclaredField
from stream_app.ops.drift import drift
from stream_app.storage.offsets import LayerOffset
from tests.helpers import flow_of, tree
from tests.unit.conftest import Cli


@pytest.fixture
def silver(feed: Feed, tmp_path: Path) -> Flow:
    flow = flow_of(feed, "silver", tmp_path)
    flow.checkpoint.path.mkdir(parents=True)
    return flow


def batch(number: int) -> Batch:
    return Batch(number, 1000 * number, 0, 0, LayerOffset(number - 1, 0), LayerOffset(number, 0), ())


def found(**counts: int) -> Undeclared:
    return Undeclared(Counter(counts), {path: json.dumps(count) for path, count in counts.items()})


def test_counts_are_added_up_with_the_first_sample_and_the_first_time(silver: Flow) -> None:
    assert undeclared.note(silver, batch(3), found(a=2)) == {"a": 2}
    assert undeclared.note(silver, batch(5), found(a=1, b=4)) == {"a": 1, "b": 4}
    assert undeclared.read(silver) == {
        "a": UndeclaredField("a", 3, 3000, 5000, "2"),
        "b": UndeclaredField("b", 4, 5000, 5000, "4"),
    }


def test_a_batch_that_runs_again_is_counted_once(silver: Flow) -> None:
    undeclared.note(silver, batch(3), found(a=2))
    before = tree(silver.root)
    assert undeclared.note(silver, batch(3), found(a=2)) == {"a": 2}
    assert tree(silver.root) == before


def test_a_batch_without_such_fields_writes_nothing(silver: Flow) -> None:
    before = tree(silver.root)
    assert undeclared.note(silver, batch(3), Undeclared()) == {}
    assert tree(silver.root) == before


def test_names_are_bounded_over_all_batches(silver: Flow) -> None:
    """Clients make them up: neither the file nor the metric may grow with them."""
    counted = Counter[str]()
    for number in range(4):
        counted += Counter(undeclared.note(silver, batch(number), found(**{f"k{number}_{n}": 1 for n in range(100)})))
    kept = undeclared.read(silver)
    assert kept.keys() == counted.keys()
    assert len(kept) == MOST_PATHS + 1
    assert kept[OTHERS].records == counted[OTHERS] == 4 * 100 - MOST_PATHS


def test_what_tasks_have_found_travels_as_text() -> None:
    first = Undeclared()
    first.add({"a": {"x": "é"}})
    total = Undeclared()
    for _ in range(2):
        total.merge(Undeclared.loaded(first.dumped()))
    assert (total.counts, total.samples) == ({"a": 2}, {"a": '{"x": "é"}'})


def test_a_damaged_file_is_named(silver: Flow) -> None:
    silver.layout.undeclared.write_text("{")
    with pytest.raises(StreamAppError, match=r"undeclared\.json cannot be read"):
        undeclared.read(silver)


def test_drift_shows_the_most_frequent_first_and_obeys_nothing(silver: Flow, cli: Cli) -> None:
    undeclared.note(silver, batch(3), found(**{"a": 1, "\x1b[2J": 2}))
    (report,) = drift([silver])
    assert [(field.path, field.records) for field in report.fields] == [("\x1b[2J", 2), ("a", 1)]
    assert report.fields[0].first_seen == datetime(1970, 1, 1, 0, 0, 3, tzinfo=UTC)
    shown = cli(silver.root, "drift")
    assert shown.code == 0
    assert "\x1b[2J" not in shown.out
    assert [one["path"] for one in json.loads(cli(silver.root, "drift", "--format=json").out)[0]["fields"]] == [
        "\x1b[2J",
        "a",
    ]
