"""Topics of five well-known shapes go end to end through one service, one record in a hundred of them hostile.

Every feed grows in mid-stream, between two starts: by an optional field, a member, a rule that warns or a window.
"""

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
HALF = VALID // 2
"""So many of them are sent before the feeds grow."""
TWICE = 20
"""So many of the valid records are sent again."""
ADDED = {
    "repository_webhook": (
        '[fields.topics]\ntype = "array"\npath = "repository.topics"\nrequired = false\n'
        'element = { type = "string" }\n',
        '[windows.pushes]\nkey = ["repository", "ref"]\nwindow = "1 minute"\nwatermark = "1 minute"\n'
        'measures = { pushes = "count", newest = "max(sent_at)" }\n',
    ),
    "card_charge": (
        '[fields.metadata]\ntype = "map"\npath = "data.object.metadata"\nrequired = false\n'
        'value = { type = "string" }\n',
    ),
    "change_record": (
        '[fields.transaction]\ntype = "json"\nrequired = false\n',
        '[rules.is_rich]\ncheck = "coalesce(after.balance, before.balance) < 1000"\nseverity = "warn"\n',
    ),
    "sensor_reading": (
        '[fields.battery]\ntype = "float"\npath = "device.battery"\nrequired = false\n',
        '[windows.readings]\nkey = "device"\nwindow = "1 minute"\nwatermark = "1 minute"\n'
        'measures = { readings = "count", weakest = "min(battery)" }\n',
    ),
    "clickstream_event": (
        '[fields.user_id]\ntype = "string"\npath = "userId"\nrequired = false\n',
        ', medium = { type = "string", required = false }',
    ),
}
"""What each feed is declared without at first."""


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
    """A service that has read the five topics, the half of each by the feed as it was, and the rest as it has grown."""
    folder = tmp_path_factory.mktemp("shapes")
    shutil.copytree(DECLARED, folder / "feeds")
    environment = quick(folder, class_archive) | {"FEEDS": ",".join(FEEDS), "MAX_OFFSETS_PER_TRIGGER": "400"}
    made = Service(folder / "output", folder / "feeds", broker.address, environment, FEEDS[0])
    for feed in FEEDS:
        declared = (DECLARED / f"{feed}.toml").read_text()
        for added in ADDED[feed]:
            assert added in declared
            declared = declared.replace(added, "")
        (folder / "feeds" / f"{feed}.toml").write_text(declared)
        broker.create_topic(feed, PARTITIONS, **{"retention.ms": "-1"})
        broker.send(feed, [sent for sent in messages(feed) if sent[2] < START_MS + HALF * 1000])
    made.drain()
    shutil.copytree(DECLARED, folder / "feeds", dirs_exist_ok=True)
    for feed in FEEDS:
        broker.send(feed, [sent for sent in messages(feed) if sent[2] >= START_MS + HALF * 1000])
    made.drain()
    return made


def messages(feed: str) -> list[tuple[str, bytes | None, int]]:
    """All that is sent of a feed, with its key and Kafka's timestamp."""
    shape = SHAPES[feed.replace("_", " ")]
    records: list[bytes | None] = [json.dumps(shape.record(number)).encode() for number in range(VALID)]
    numbered = list(enumerate(records))
    again = numbered[:TWICE]
    odd = [(number * 99, value) for number, value in enumerate(hostile(records[0] or b""))]
    sent = sorted([*numbered, *again, *odd], key=lambda one: one[0])
    return [(f"k{number % 7}", value, START_MS + number * 1000) for number, value in sent]


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
    "repository_webhook": ("sum(len(commits)), max(commits[1].author.name), count(topics)", [(1980, "Ada", HALF)]),
    "card_charge": ("sum(card.exp_month), count(metadata['order_id'])", [(7920, 330)]),
    "change_record": (
        "count(before), count(after), max(after.balance)::VARCHAR, count(warnings)",
        [(660, 660, "1000.50", HALF)],
    ),
    "sensor_reading": ("sum(list_sum([one.value for one in samples])), count(battery)", [(30386.0, 165)]),
    "clickstream_event": (
        "sum(context.screen.width), count(context.campaign.source), count(context.campaign.medium), count(user_id)",
        [(1267200, 248, 124, 247)],
    ),
}


@pytest.mark.parametrize("feed", FEEDS)
def test_what_is_nested_is_read_as_it_was_sent_and_what_was_added_since_it_was(service: Service, feed: str) -> None:
    columns, expected = ASKED[feed]
    assert of(service, feed).query(f"SELECT {columns} FROM silver") == expected
