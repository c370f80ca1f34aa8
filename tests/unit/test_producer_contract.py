"""What the producer calls valid, late, future, repeated or bad, the app's contract judges the same.

The two share no code: only this test, and Kafka, bring them together.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from producer.events import EventSource, feeds, seeded, source
from producer.faults import SPOILERS, Kind, Shares, Traffic
from stream_app.contract.contract import Contract
from stream_app.contract.verdict import Rejected, Row
from stream_app.feeds.load import load_feeds
from stream_app.sources.lookup import Source
from stream_app.storage.planned import UNBOUNDED
from stream_app.storage.snapshots import Snapshot

NOW_MS = 1_795_234_830_125
FOLDER = Path("conf/feeds")
EXPECTED = {Kind.VALID: (), Kind.REPEATED: (), Kind.FUTURE: ("future",)}
LATE = dict.fromkeys(feeds(), ("late",)) | {"user_activity": ()}  # late activity is late for its windows only


@pytest.fixture(scope="module", params=[feed for feed in feeds() if (FOLDER / f"{feed}.toml").is_file()])
def feed(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def contract(feed: str) -> Contract:
    return contract_of(feed)


def contract_of(feed: str) -> Contract:
    """The contract of a feed that is shipped; each of its lookups is read once."""
    (declared,) = load_feeds(FOLDER, [feed])
    read = {name: Snapshot(Source.of(declared, name, FOLDER).read()) for name in declared.lookups}
    return Contract(declared, lambda lookup, _pin: read[lookup])


@pytest.fixture
def events(feed: str) -> EventSource:
    return source(feed, 9)


def judged(contract: Contract, sent: Sequence[tuple[bytes | None, int]]) -> list[Row | Rejected]:
    """The verdicts on values with their times in milliseconds, all at once: one by one, rules take far longer."""
    times = [timestamp_ms * 1000 for _, timestamp_ms in sent]
    return contract.check_each([value for value, _ in sent], times, [UNBOUNDED] * len(sent))


def reasons(contract: Contract, sent: Sequence[tuple[bytes | None, int]]) -> list[tuple[str, ...]]:
    return [one.reasons if isinstance(one, Rejected) else () for one in judged(contract, sent)]


def test_every_kind_of_message_is_judged_as_what_it_was_made_to_be(
    feed: str, events: EventSource, contract: Contract
) -> None:
    traffic = Traffic(events, Shares(bad=0.1, late=0.1, future=0.1, repeated=0.1), 9)
    messages = [traffic.message(NOW_MS + number * 50) for number in range(5_000)]
    for message, found in zip(
        messages, reasons(contract, [(one.value, one.timestamp_ms) for one in messages]), strict=True
    ):
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
    feed: str, events: EventSource, contract: Contract, name: str, families: set[str]
) -> None:
    if feed == "sales":  # whose fields have neither a list of values nor a pattern
        families = families - {"not_allowed"}
    rng = seeded("test", 3)
    values = [SPOILERS[name](events.event(NOW_MS), events.contract, rng) for _ in range(200)]
    found = reasons(contract, [(value, NOW_MS) for value in values])
    assert all(found)
    assert {reason.split(":")[0] for several in found for reason in several} == families


def test_some_sales_name_what_the_reference_data_lacks_and_some_have_a_wrong_amount() -> None:
    """At the shares that the producer has by itself, a minute of 100 a second has of each."""
    contract = contract_of("sales")
    traffic = Traffic(source("sales", 9), Shares(bad=0.01), 9)
    found: Counter[str] = Counter()
    messages = [traffic.message(NOW_MS + number * 10) for number in range(6_000)]
    for verdict in judged(contract, [(one.value, one.timestamp_ms) for one in messages]):
        found.update(verdict.reasons if isinstance(verdict, Rejected) else verdict[-1])
    assert {"unknown:client_id", "unknown:produit_id"} <= {*found}
    assert 30 < found["montant_juste"] < 90
