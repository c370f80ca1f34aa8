"""Topics of five well-known shapes go end to end through one service, one record in a hundred of them hostile."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from stream_app.feeds.load import feeds_in
from stream_app.ops.audit.report import Verdict
from stream_app.settings import PROJECT
from tests.service.harness import Service, quick
from tests.service.servers import PARTITIONS, KafkaBroker
from tests.shapes import SHAPES

DECLARED = PROJECT / "tests" / "fixtures" / "shapes"
FEEDS = feeds_in(DECLARED)
START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
VALID = 990
TWICE = 20
"""So many of the valid records are sent again."""


def hostile(valid: bytes) -> dict[bytes | None, set[str]]:
    """What is no record of the feed, with reasons that it must have."""
    return {
        None: {"empty"},
        b"": {"empty"},
        b"\xff\xfe": {"not_json"},
        valid[:-1]: {"not_json"},
        valid.replace(b":", b': NaN, "\\ud800":', 1): {"not_json"},
        b'{"deep": ' + b"[" * 500 + b"]" * 500 + b"}": {"not_json"},
        b"[" + valid + b"]": {"not_object"},
        b"7e999": {"not_object"},
        b"{}": set(),
        b'{"' + b"x" * 100_000 + b'": 1e400}': set(),
    }


@pytest.fixture(scope="module")
def service(broker: KafkaBroker, class_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service that has read the five topics."""
    folder = tmp_path_factory.mktemp("shapes")
    shutil.copytree(DECLARED, folder / "feeds")
    for feed in FEEDS:
        broker.create_topic(feed, PARTITIONS, **{"retention.ms": "-1"})
        shape = SHAPES[feed.replace("_", " ")]
        records: list[bytes | None] = [json.dumps(shape.record(number)).encode() for number in range(VALID)]
        numbered = list(enumerate(records))
        again = numbered[:TWICE]
        odd = [(number * 99, value) for number, value in enumerate(hostile(records[0] or b""))]
        sent = sorted([*numbered, *again, *odd], key=lambda one: one[0])
        broker.send(feed, [(f"k{number % 7}", value, START_MS + number * 1000) for number, value in sent])
    environment = quick(folder, class_archive) | {"FEEDS": ",".join(FEEDS), "MAX_OFFSETS_PER_TRIGGER": "400"}
    made = Service(folder / "output", folder / "feeds", broker.address, environment, FEEDS[0])
    made.drain()
    return made


def of(service: Service, feed: str) -> Service:
    """The same, to be asked about that feed."""
    return Service(service.root, service.feeds_path, service.servers, service.environment, feed)


@pytest.mark.parametrize("feed", FEEDS)
def test_each_record_of_a_well_known_shape_is_where_it_belongs(service: Service, feed: str) -> None:
    own = of(service, feed)
    report = own.audit()
    assert (report.verdict, report.wrong, report.not_audited) == (Verdict.RIGHT, [], [])
    keeps_each = own.feed.dedupe is None
    assert own.count("silver") == VALID + (TWICE if keeps_each else 0)
    assert report.counts["repeats"] == (0 if keeps_each else TWICE)
    found = [
        {*str(reasons).split()} for (reasons,) in own.query("SELECT array_to_string(reasons, ' ') FROM quarantine")
    ]
    expected = hostile(b'{"a":1}').values()
    assert len(found) == len(expected)
    for reasons in filter(None, expected):
        assert any(reasons <= one for one in found), reasons
    for window in own.feed.windows:
        assert own.count(window) > 0


ASKED = {
    "repository_webhook": ("sum(len(commits)), max(commits[1].author.name)", [(1980, "Ada")]),
    "card_charge": ("sum(card.exp_month), count(metadata['order_id'])", [(7920, 660)]),
    "change_record": ("count(before), count(after), max(after.balance)::VARCHAR", [(660, 660, "1000.50")]),
    "sensor_reading": ("sum(list_sum([one.value for one in samples])), count(battery)", [(30386.0, 337)]),
    "clickstream_event": ("sum(context.screen.width), count(context.campaign.source)", [(1267200, 248)]),
}


@pytest.mark.parametrize("feed", FEEDS)
def test_what_is_nested_is_read_as_it_was_sent(service: Service, feed: str) -> None:
    columns, expected = ASKED[feed]
    assert of(service, feed).query(f"SELECT {columns} FROM silver") == expected
