"""The two feeds of the batch path tell of one shop: the same users pay who look around, for what their amounts say."""

from decimal import Decimal
from typing import Any

from producer.events import source
from producer.shop import COUNTRIES, products, users

NOW_MS = 1_795_234_830_125


def sample(feed: str, seed: int = 1, size: int = 2_000) -> list[dict[str, Any]]:
    events = source(feed, seed)
    return [events.event(NOW_MS + number * 200).fields for number in range(size)]


def test_a_join_of_both_feeds_finds_partners_whatever_their_seeds() -> None:
    seen = {event["user_id"] for event in sample("user_events", seed=1)}
    paid = {event["user_id"] for event in sample("transaction_events", seed=2)}
    assert len(seen & paid) > len(paid) / 3
    assert seen | paid <= {user.user_id for user in users()}


def test_a_user_has_one_country_and_pays_in_its_currency() -> None:
    homes = {user.user_id: (user.country, user.currency) for user in users()}
    assert all(event["country"] == homes[event["user_id"]][0] for event in sample("user_events"))
    assert all(event["currency"] == homes[event["user_id"]][1] for event in sample("transaction_events"))
    assert all(COUNTRIES[country][1] == currency for country, currency in homes.values())


def test_an_amount_is_what_the_items_add_up_to() -> None:
    for event in sample("transaction_events"):
        total = sum(item["quantity"] * Decimal(str(item["unit_price"])) for item in event["items"])
        assert Decimal(str(event["amount"])) == total
        bought = [item["product_id"] for item in event["items"]]
        assert len(bought) == len({*bought}) >= 1
        assert {*bought} <= {product.product_id for product in products()}


def test_a_session_is_one_users_and_begins_with_a_login() -> None:
    owners: dict[str, str] = {}
    for event in sample("user_events", size=10_000):
        if event["session_id"] not in owners:
            assert event["event_type"] == "login"
        assert owners.setdefault(event["session_id"], event["user_id"]) == event["user_id"]
        assert ("page" in event) == (event["event_type"] not in {"login", "logout"})
