"""User activity looks real: sessions in order, one at a time for a user, ended or just left."""

import json
from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from producer.events.user_activity import COUNTRIES, DEVICES, ONLINE, SITE, Events, pools
from producer.faults import Kind, Shares, Traffic
from tests.examples import examples

NOW_MS = 1_795_234_830_125
TYPES = {"page_view", "click", "add_to_cart", "purchase", "session_start", "session_end"}


def sample(seed: int = 1, size: int = 20_000) -> list[dict[str, Any]]:
    source = Events(seed)
    return [source.event(NOW_MS + number * 200).fields for number in range(size)]


def by(field: str, records: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found = defaultdict(list)
    for record in records:
        found[record[field]].append(record)
    return found


def types(session: list[dict[str, Any]]) -> list[str]:
    return [record["event_type"] for record in session]


@given(seed=st.integers(0, 2**64), size=st.integers(1, 2_000))
@examples(25)
def test_a_session_starts_once_at_first_and_ends_at_last_if_at_all(seed: int, size: int) -> None:
    for session in by("session_id", sample(seed, size)).values():
        first, *others = types(session)
        assert first == "session_start"
        assert "session_start" not in others
        assert "session_end" not in others[:-1]


def test_a_user_has_one_session_at_a_time() -> None:
    returned = 0
    for records in by("user_id", sample(size=80_000)).values():  # so many that some users come back
        sessions = [record["session_id"] for record in records]
        assert sum(one != other for one, other in pairwise(sessions)) == len(set(sessions)) - 1
        returned += len(set(sessions)) > 1
    assert returned > 100


def test_a_session_is_one_users_on_one_device_in_one_country() -> None:
    for session in by("session_id", sample()).values():
        assert len({(record["user_id"], record["device"], record["country"]) for record in session}) == 1


def test_most_sessions_end_and_the_others_are_just_left() -> None:
    records = sample()
    recent = {record["session_id"] for record in records[-5_000:]}
    over = [session for key, session in by("session_id", records).items() if key not in recent]
    ended = sum(types(session)[-1] == "session_end" for session in over)
    assert 0.5 < ended / len(over) < 0.9
    assert 8 < sum(map(len, over)) / len(over) < 16


def test_at_five_records_a_second_silence_closes_no_session_that_goes_on() -> None:
    for session in by("session_id", sample()).values():
        times = [datetime.fromisoformat(record["event_time"]).timestamp() for record in session]
        assert times == sorted(times)
        assert all(later - earlier < 900 for earlier, later in pairwise(times))


def test_many_users_are_online_at_once() -> None:
    assert len(by("session_id", sample()[10_000 : 10_000 + 2 * ONLINE])) > ONLINE / 2


def test_only_products_go_into_the_cart_and_only_what_is_in_it_is_bought() -> None:
    products = {page.url for page in pools().pages if page.sells}
    for session in by("session_id", sample()).values():
        in_cart = 0
        for record in session:
            if record["event_type"] == "add_to_cart":
                assert record["page_url"] in products
                in_cart += 1
            elif record["event_type"] == "purchase":
                assert record["page_url"] == f"{SITE}/checkout"
                assert in_cart
                in_cart = 0


def test_what_is_no_page_view_happens_on_the_page_that_the_user_sees() -> None:
    for session in by("session_id", sample()).values():
        page = session[0]["page_url"]
        for record in session:
            if record["event_type"] in {"page_view", "purchase"}:
                page = record["page_url"]
            assert record["page_url"] == page


def test_every_type_page_device_and_country_occurs_and_some_far_more_than_others() -> None:
    records = sample()
    assert {record["event_type"] for record in records} == TYPES
    assert {record["device"] for record in records} == set(DEVICES)
    assert {record["country"] for record in records} == set(COUNTRIES)
    pages = Counter(record["page_url"] for record in records)
    assert {page.url for page in pools().pages} <= pages.keys()
    assert pages[f"{SITE}/"] == max(pages.values()) > 2_000
    kinds = Counter(types(records))
    assert kinds["page_view"] > kinds["click"] > kinds["add_to_cart"] > kinds["purchase"] > 100


def test_ids_are_uuids_and_each_is_of_one_event() -> None:
    ids = [record["event_id"] for record in sample()]
    assert len(set(ids)) == len(ids)
    assert all(str(UUID(one)) == one and UUID(one).version == 4 for one in ids)


def test_the_key_is_the_user() -> None:
    event = Events(1).event(NOW_MS)
    assert event.key == event.fields["user_id"]


def test_a_user_has_one_country_in_all_runs_whatever_their_seeds() -> None:
    countries: dict[str, str] = {}
    for seed in range(5):
        for record in sample(seed, 2_000):
            assert countries.setdefault(record["user_id"], record["country"]) == record["country"]


def test_valid_records_keep_the_order_of_their_session_at_any_rate() -> None:
    """Delays that differ from record to record would turn it around."""
    traffic = Traffic(Events(1), Shares(bad=0.02, late=0.05, future=0.02, repeated=0.02), 1)
    sent = [traffic.message(NOW_MS + number // 10) for number in range(20_000)]
    valid = [json.loads(message.value or b"") for message in sent if message.kind is Kind.VALID]
    for session in by("session_id", valid).values():
        times = [record["event_time"] for record in session]
        assert times == sorted(times)
