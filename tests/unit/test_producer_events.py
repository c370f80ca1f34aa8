"""Records keep the rules of their feed and depend on the seed alone; transactions look real."""

import json
import re
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer import events
from producer.events import iso_utc
from producer.events.transactions import CURRENCY, Events, pools
from tests.examples import examples

NOW_MS = 1_795_234_830_125  # 2026-11-21T04:20:30.125Z
FEEDS = events.feeds()
FILES = {path.stem: tomllib.loads(path.read_text()) for path in Path("conf/feeds").glob("*.toml")}
KINDS: dict[str, Any] = {"long": int, "double": (float, int), "decimal": (float, int), "array": list}
DECLARED = [feed for feed in FEEDS if feed in FILES]


def sample(feed: str = "transactions", seed: int = 1, size: int = 2_000) -> list[dict[str, Any]]:
    source = events.source(feed, seed)
    return [source.event(NOW_MS + number).fields for number in range(size)]


def wire_names(feed: str) -> list[str]:
    return [rule.get("path", name) for name, rule in FILES[feed]["fields"].items()]


def required_names(feed: str) -> list[str]:
    return [rule.get("path", name) for name, rule in FILES[feed]["fields"].items() if rule.get("required", True)]


def broken_rules(feed: str, record: dict[str, Any]) -> list[str]:
    """Check a record against the feed file in the plainest way, apart from the app's own reading of it."""
    broken = []
    for name, rule in FILES[feed]["fields"].items():
        wire = rule.get("path", name)
        if wire not in record and not rule.get("required", True):
            continue
        value = record[wire]
        kind = rule["type"].partition("(")[0]
        good = isinstance(value, KINDS.get(kind, str))
        if good and "length" in rule:
            good = rule["length"][0] <= len(value) <= rule["length"][1]
        if good and "range" in rule:
            good = rule["range"][0] <= value <= rule["range"][1]
        if good and "allowed" in rule:
            good = value in rule["allowed"]
        if good and "pattern" in rule:
            good = re.fullmatch(rule["pattern"], value) is not None
        if not good:
            broken.append(name)
    return broken


@pytest.mark.parametrize("feed", FEEDS)
@given(seed=st.integers(0, 2**64), times=st.lists(st.integers(0, 4_000_000_000_000), max_size=20))
@examples(50)
def test_the_same_seed_and_times_give_the_same_events(feed: str, seed: int, times: list[int]) -> None:
    one, other = events.source(feed, seed), events.source(feed, seed)
    assert [one.event(time) for time in times] == [other.event(time) for time in times]


@pytest.mark.parametrize("feed", FEEDS)
def test_only_the_time_of_an_event_depends_on_the_time(feed: str) -> None:
    one, other = events.source(feed, 5), events.source(feed, 5)
    for number in range(500):
        first, second = one.event(number).fields, other.event(NOW_MS).fields
        assert {name for name in first if first[name] != second[name]} == {one.contract.time_field}


@pytest.mark.parametrize("feed", FEEDS)
def test_other_seeds_give_other_records(feed: str) -> None:
    identity = events.source(feed, 0).contract.required[0]
    ids = {record[identity] for seed in range(20) for record in sample(feed, seed, 50)}
    assert len(ids) == 20 * 50


@pytest.mark.parametrize("feed", DECLARED)
@given(seed=st.integers(0, 2**32))
@examples(50)
def test_events_keep_the_rules_of_the_feed_file(feed: str, seed: int) -> None:
    for record in sample(feed, seed, 20):
        assert {*required_names(feed)} <= {*record} <= {*wire_names(feed)}
        assert broken_rules(feed, record) == []


@pytest.mark.parametrize("feed", FEEDS)
def test_a_record_has_the_required_fields_in_their_order(feed: str) -> None:
    required = events.source(feed, 1).contract.required
    assert tuple(sample(feed, size=1)[0])[: len(required)] == required


@pytest.mark.parametrize("feed", DECLARED)
def test_what_the_producer_knows_of_the_contract_agrees_with_the_feed_file(feed: str) -> None:
    contract, times = events.source(feed, 1).contract, FILES[feed]["event_time"]
    assert sorted(contract.required) == sorted(required_names(feed))
    assert times["lateness"] == f"{contract.lateness_ms // 60_000} minutes"
    assert times["future_tolerance"] == f"{contract.future_tolerance_ms // 60_000} minute"
    good = sample(feed, size=1)[0]
    three_decimals = 19.999  # not a matter of the plain rules above
    for field, values in contract.refused.items():
        for value in values:
            assert value == three_decimals or broken_rules(feed, {**good, field: value}) == [field]


def test_currencies_are_those_of_the_feed_file() -> None:
    assert set(CURRENCY.values()) == set(FILES["transactions"]["fields"]["currency"]["allowed"])


def test_a_card_belongs_to_one_user_in_all_runs_whatever_their_seeds() -> None:
    owners: dict[str, str] = {}
    for seed in range(5):
        for record in sample(seed=seed):
            assert owners.setdefault(record["card_id"], record["user_id"]) == record["user_id"]
    cards = pools().cards
    assert len({card.card_id for card in cards}) == len(cards)


def test_the_key_is_the_card() -> None:
    event = Events(1).event(NOW_MS)
    assert event.key == event.fields["card_id"]


def test_a_city_has_one_country_currency_and_place() -> None:
    places: dict[str, tuple[Any, ...]] = {}
    for record in sample():
        place = tuple(record[name] for name in ("country", "currency", "lat", "lon"))
        assert places.setdefault(record["city"], place) == place
        assert CURRENCY[record["country"]] == record["currency"]
    assert len(places) > 100


def test_amounts_have_two_decimals_and_are_skewed() -> None:
    amounts = sorted(record["amount"] for record in sample())
    for amount in amounts:
        whole, _, decimals = msgspec.json.encode(amount).decode().partition(".")
        assert whole.isdigit()
        assert len(decimals) <= 2
    assert amounts[0] > 0
    assert amounts[len(amounts) // 2] < sum(amounts) / len(amounts) / 1.3


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [(0, "1970-01-01T00:00:00.000Z"), (NOW_MS, "2026-11-21T04:20:30.125Z"), (-1, "1969-12-31T23:59:59.999Z")],
)
def test_times_are_iso_8601_in_utc(time_ms: int, text: str) -> None:
    assert iso_utc(time_ms) == text


@given(st.integers(0, 4_000_000_000_000))
def test_times_read_back_to_the_millisecond(time_ms: int) -> None:
    assert round(datetime.fromisoformat(iso_utc(time_ms)).timestamp() * 1000) == time_ms


@pytest.mark.parametrize("feed", FEEDS)
def test_records_survive_json(feed: str) -> None:
    for record in sample(feed, size=200):
        assert json.loads(msgspec.json.encode(record)) == record


def test_feeds_are_the_modules_of_the_package() -> None:
    assert FEEDS == ["sales", "transaction_events", "transactions", "user_activity", "user_events"]
    assert isinstance(events.source("transactions", 1), Events)
