"""Faults come in the shares asked for, are what they are called, and repeat with the seed."""

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.events import Contract, feeds, seeded, source
from producer.faults import SPOILERS, Kind, Message, Recent, Shares, Traffic
from tests.examples import examples

NOW_MS = 1_795_234_830_125
CONTRACTS = {feed: source(feed, 0).contract for feed in feeds()}
SOME = Shares(bad=0.1, late=0.1, future=0.1, repeated=0.1)

of_every_feed = pytest.mark.parametrize("feed", CONTRACTS)


def traffic(feed: str, shares: Shares = SOME, seed: int = 1) -> Traffic:
    return Traffic(source(feed, seed), shares, seed)


def messages(
    shares: Shares, feed: str = "transactions", size: int = 2_000, seed: int = 1, step_ms: int = 200
) -> list[Message]:
    made = traffic(feed, shares, seed)
    return [made.message(NOW_MS + number * step_ms) for number in range(size)]


def age_ms(message: Message, feed: str) -> int:
    time = json.loads(message.value or b"")[CONTRACTS[feed].time_field]
    return message.timestamp_ms - round(datetime.fromisoformat(time).timestamp() * 1000)


@of_every_feed
@given(seed=st.integers(0, 2**64), times=st.lists(st.integers(10**12, 2 * 10**12), max_size=40).map(sorted))
@examples(40)
def test_the_same_seed_and_timestamps_give_the_same_messages(feed: str, seed: int, times: list[int]) -> None:
    one, other = traffic(feed, seed=seed), traffic(feed, seed=seed)
    assert [one.message(time) for time in times] == [other.message(time) for time in times]


@of_every_feed
def test_kinds_and_keys_do_not_depend_on_the_timestamps(feed: str) -> None:
    slow, fast = messages(SOME, feed, step_ms=3), messages(SOME, feed, step_ms=1)
    assert [(message.kind, message.key) for message in slow] == [(message.kind, message.key) for message in fast]


@of_every_feed
def test_shares_of_zero_mean_no_faults(feed: str) -> None:
    sent = messages(Shares(), feed)
    assert {message.kind for message in sent} == {Kind.VALID}
    assert len({message.value for message in sent}) == len(sent)
    assert all(0 <= age_ms(message, feed) <= CONTRACTS[feed].max_delay_ms for message in sent)


@pytest.mark.parametrize("kind", [Kind.BAD, Kind.LATE, Kind.FUTURE, Kind.REPEATED])
def test_a_share_turns_on_its_own_fault_only(kind: Kind) -> None:
    sent = messages(Shares(**{kind.value: 0.2}))
    assert {message.kind for message in sent} == {Kind.VALID, kind}
    assert 300 < sum(message.kind is kind for message in sent) < 500


def test_a_share_of_one_makes_all_of_a_kind() -> None:
    assert {message.kind for message in messages(Shares(late=1.0), size=50)} == {Kind.LATE}


@of_every_feed
def test_late_and_future_records_are_beyond_their_limits_and_the_others_within(feed: str) -> None:
    contract = CONTRACTS[feed]
    for message in messages(SOME, feed):
        if message.kind is Kind.LATE:
            assert contract.late.age_ms <= age_ms(message, feed) <= contract.late.age_ms + contract.late.more_ms
        elif message.kind is Kind.FUTURE:
            assert age_ms(message, feed) < -contract.future_tolerance_ms
        elif message.kind is not Kind.BAD:
            assert 0 <= age_ms(message, feed) <= contract.lateness_ms


def test_late_transactions_are_too_late_for_the_contract() -> None:
    limit = CONTRACTS["transactions"].lateness_ms
    ages = [age_ms(message, "transactions") for message in messages(Shares(late=1.0))]
    assert min(ages) > limit
    assert max(ages) > 1_000 * limit


def test_late_activity_is_three_minutes_old_and_in_time_for_the_contract() -> None:
    ages = {age_ms(message, "user_activity") for message in messages(Shares(late=1.0), "user_activity")}
    assert ages == {180_000}
    assert CONTRACTS["user_activity"].lateness_ms == 600_000


def test_repeats_are_earlier_valid_records_byte_for_byte_at_a_new_timestamp() -> None:
    valid: dict[bytes | None, Message] = {}
    distances = set()
    for message in messages(SOME):
        if message.kind is Kind.REPEATED:
            original = valid[message.value]
            assert original.key == message.key
            assert original.timestamp_ms < message.timestamp_ms
            distances.add(message.timestamp_ms - original.timestamp_ms)
        elif message.kind is Kind.VALID:
            valid[message.value] = message
    assert min(distances) < 5_000  # in one batch
    assert max(distances) > 100_000  # and in batches apart


def test_nothing_is_repeated_when_nothing_fresh_was_sent() -> None:
    sent = messages(Shares(repeated=0.5), size=50, step_ms=CONTRACTS["transactions"].lateness_ms + 1_000)
    assert {message.kind for message in sent} == {Kind.VALID}


@given(kept=st.integers(0, 5_000), draw=st.floats(0, 1, exclude_max=True))
@examples(50)
def test_recent_messages_are_bounded_and_picked_only_while_fresh(kept: int, draw: float) -> None:
    recent = Recent(max_age_ms=1_000)
    for number in range(kept):
        recent.keep(Message(str(number), b"{}", number, Kind.VALID), number)
    picked = recent.pick(draw, kept + 500)
    assert (picked is None) == (kept == 0)
    assert picked is None or kept + 500 - picked.timestamp_ms <= 1_000
    assert recent.pick(draw, kept + 1_001) is None


def is_valid(value: bytes | None, contract: Contract, good: dict[str, object]) -> bool:
    """Whether a record passes the rules that a good one shows, as far as a bad one may break them."""
    try:
        record = json.loads((value or b"").decode(), parse_constant=lambda _: None)
        moment = datetime.fromisoformat(record[contract.time_field])
    except (ValueError, TypeError, KeyError):
        return False
    texts = [record.get(name) for name in contract.required if isinstance(good[name], str)]
    numbers = [record.get(name) for name in contract.required if isinstance(good[name], float | int)]
    lists = [record.get(name) for name in contract.required if isinstance(good[name], list)]
    return (
        len(record[contract.time_field]) > len("2026-11-21")
        and (moment.tzinfo is None) == (datetime.fromisoformat(str(good[contract.time_field])).tzinfo is None)
        and all(isinstance(text, str) and 0 < len(text) <= 256 for text in texts)
        and all(type(number) in {int, float} for number in numbers)
        and all(isinstance(one, list) and all(isinstance(held, dict) for held in one) for one in lists)
        and not any(record.get(name) in values for name, values in contract.refused.items())
    )


@of_every_feed
def test_valid_records_pass_the_check_that_bad_ones_fail(feed: str) -> None:
    good = source(feed, 3).event(NOW_MS).fields
    assert all(is_valid(message.value, CONTRACTS[feed], good) for message in messages(Shares(), feed, size=200))


@of_every_feed
@pytest.mark.parametrize("name", SPOILERS)
def test_every_way_to_spoil_a_record_breaks_it(feed: str, name: str) -> None:
    made, rng, contract = source(feed, 3), seeded("test", 3), CONTRACTS[feed]
    for number in range(300):
        event = made.event(NOW_MS + number)
        assert not is_valid(SPOILERS[name](event, contract, rng), contract, event.fields)


def test_bad_messages_come_in_all_ways_and_keep_their_key() -> None:
    bad = [message for message in messages(Shares(bad=1.0), size=500) if message.kind is Kind.BAD]
    values = [message.value for message in bad]
    assert None in values
    assert b"" in values
    assert any(value and b"NaN" in value for value in values)
    assert any(value and value.startswith(b"[") for value in values)
    assert all(message.key.startswith("card_") for message in bad)
