"""What the producer calls valid, late, future, repeated or bad, the app's contract judges the same.

The two share no code: only this test, and Kafka, bring them together.
"""

from pathlib import Path

import pytest

from producer.events import EventSource, feeds, seeded, source
from producer.faults import SPOILERS, Kind, Shares, Traffic
from stream_app.contract.contract import Contract, Rejected
from stream_app.feeds.load import load_feeds
from stream_app.storage.planned import UNBOUNDED

NOW_MS = 1_795_234_830_125
FOLDER = Path("conf/feeds")
EXPECTED = {Kind.VALID: (), Kind.REPEATED: (), Kind.FUTURE: ("future",)}
LATE = dict.fromkeys(feeds(), ("late",)) | {"user_activity": ()}  # late activity is late for its windows only


@pytest.fixture(scope="module", params=[feed for feed in feeds() if (FOLDER / f"{feed}.toml").is_file()])
def feed(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def contract(feed: str) -> Contract:
    return Contract(load_feeds(FOLDER, [feed])[0])


@pytest.fixture
def events(feed: str) -> EventSource:
    return source(feed, 9)


def reasons(contract: Contract, value: bytes | None, timestamp_ms: int) -> tuple[str, ...]:
    verdict = contract.check(value, timestamp_ms * 1000, UNBOUNDED)
    return tuple(verdict.reasons) if isinstance(verdict, Rejected) else ()


def test_every_kind_of_message_is_judged_as_what_it_was_made_to_be(
    feed: str, events: EventSource, contract: Contract
) -> None:
    traffic = Traffic(events, Shares(bad=0.1, late=0.1, future=0.1, repeated=0.1), 9)
    for number in range(5_000):
        message = traffic.message(NOW_MS + number * 50)
        found = reasons(contract, message.value, message.timestamp_ms)
        if message.kind is Kind.BAD:
            assert found
        else:
            assert found == {**EXPECTED, Kind.LATE: LATE[feed]}[message.kind]


@pytest.mark.parametrize(
    ("name", "families"),
    [
        ("cut", {"not_json"}),
        ("not JSON", {"not_json"}),
        ("trailing text", {"not_json"}),
        ("invalid UTF-8", {"not_json"}),
        ("not finite", {"not_json"}),
        ("not an object", {"not_object"}),
        ("empty", {"empty"}),
        ("tombstone", {"empty"}),
        ("missing", {"missing"}),
        ("null", {"missing"}),
        ("bad type", {"bad_type"}),
        ("bad time", {"bad_time"}),
        ("refused", {"out_of_range", "not_allowed"}),
    ],
)
def test_every_way_to_spoil_a_record_has_its_reason(
    events: EventSource, contract: Contract, name: str, families: set[str]
) -> None:
    rng = seeded("test", 3)
    found = set()
    for _ in range(200):
        value = SPOILERS[name](events.event(NOW_MS), events.contract, rng)
        judged = reasons(contract, value, NOW_MS)
        assert judged
        found |= {reason.split(":")[0] for reason in judged}
    assert found == families
