"""Transactions look real, keep the feed's rules, and depend on the seed alone."""

import json
import re
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer import events
from producer.events import iso_utc
from producer.events.transactions import CURRENCY, Events, pools

NOW_MS = 1_795_234_830_125  # 2026-11-21T04:20:30.125Z
FEED = tomllib.loads(Path("conf/feeds/transactions.toml").read_text())


def sample(seed: int = 1, size: int = 2_000) -> list[dict[str, Any]]:
    source = Events(seed)
    return [source.event(NOW_MS + number).fields for number in range(size)]


def broken_rules(record: dict[str, Any]) -> list[str]:
    """Check a record against the feed file in the plainest way, apart from the app's own reading of it."""
    broken = []
    for name, rule in FEED["fields"].items():
        value = record[rule.get("wire", name)]
        kinds = (float, int) if rule["type"] == "double" or rule["type"].startswith("decimal") else str
        good = isinstance(value, kinds)
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


@given(seed=st.integers(0, 2**64), times=st.lists(st.integers(0, 4_000_000_000_000), max_size=20))
@settings(max_examples=50)
def test_the_same_seed_and_times_give_the_same_events(seed: int, times: list[int]) -> None:
    one, other = Events(seed), Events(seed)
    assert [one.event(time) for time in times] == [other.event(time) for time in times]


def test_only_the_time_of_an_event_depends_on_the_time() -> None:
    one, other = Events(5), Events(5)
    for number in range(100):
        first, second = one.event(number).fields, other.event(NOW_MS).fields
        assert {**first, "event_ts": ""} == {**second, "event_ts": ""}


def test_other_seeds_give_other_records() -> None:
    ids = {record["txn_id"] for seed in range(20) for record in sample(seed, 50)}
    assert len(ids) == 20 * 50


@given(seed=st.integers(0, 2**32))
@settings(max_examples=50)
def test_events_keep_the_rules_of_the_feed_file(seed: int) -> None:
    for record in sample(seed, 20):
        assert list(record) == [rule.get("wire", name) for name, rule in FEED["fields"].items()]
        assert broken_rules(record) == []


def test_what_the_producer_knows_of_the_contract_agrees_with_the_feed_file() -> None:
    contract, times = Events.contract, FEED["event_time"]
    assert contract.required == tuple(rule.get("wire", name) for name, rule in FEED["fields"].items())
    assert times["lateness"] == f"{contract.lateness_ms // 60_000} minutes"
    assert times["future_tolerance"] == f"{contract.future_tolerance_ms // 60_000} minute"
    good = sample(size=1)[0]
    three_decimals = 19.999  # not a matter of the plain rules above
    for field, values in contract.refused.items():
        for value in values:
            assert value == three_decimals or broken_rules({**good, field: value}) == [field]


def test_currencies_are_those_of_the_feed_file() -> None:
    assert set(CURRENCY.values()) == set(FEED["fields"]["currency"]["allowed"])


def test_a_card_belongs_to_one_user_in_all_runs_whatever_their_seeds() -> None:
    owners: dict[str, str] = {}
    for seed in range(5):
        for record in sample(seed):
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


def test_records_survive_json() -> None:
    for record in sample(size=200):
        assert json.loads(msgspec.json.encode(record)) == record


def test_feeds_are_the_modules_of_the_package() -> None:
    assert "transactions" in events.feeds()
    assert isinstance(events.source("transactions", 1), Events)
