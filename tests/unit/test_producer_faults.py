"""Faults come in the shares asked for, are what they are called, and repeat with the seed."""

import json
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.events import seeded
from producer.events.transactions import Events
from producer.faults import SPOILERS, Kind, Message, Recent, Shares, Traffic

NOW_MS = 1_795_234_830_125
CONTRACT = Events.contract
SOME = Shares(bad=0.1, late=0.1, future=0.1, repeated=0.1)


def traffic(shares: Shares = SOME, seed: int = 1) -> Traffic:
    return Traffic(Events(seed), shares, seed)


def messages(shares: Shares, size: int = 2_000, seed: int = 1, step_ms: int = 200) -> list[Message]:
    source = traffic(shares, seed)
    return [source.message(NOW_MS + number * step_ms) for number in range(size)]


def age_ms(message: Message) -> int:
    record = json.loads(message.value or b"")
    return message.timestamp_ms - round(datetime.fromisoformat(record["event_ts"]).timestamp() * 1000)


@given(seed=st.integers(0, 2**64), times=st.lists(st.integers(10**12, 2 * 10**12), max_size=40).map(sorted))
@settings(max_examples=40)
def test_the_same_seed_and_timestamps_give_the_same_messages(seed: int, times: list[int]) -> None:
    one, other = traffic(seed=seed), traffic(seed=seed)
    assert [one.message(time) for time in times] == [other.message(time) for time in times]


def test_kinds_and_keys_do_not_depend_on_the_timestamps() -> None:
    slow, fast = messages(SOME, step_ms=3), messages(SOME, step_ms=1)
    assert [(message.kind, message.key) for message in slow] == [(message.kind, message.key) for message in fast]


def test_shares_of_zero_mean_no_faults() -> None:
    sent = messages(Shares())
    assert {message.kind for message in sent} == {Kind.VALID}
    assert len({message.value for message in sent}) == len(sent)
    assert all(0 <= age_ms(message) <= 500 for message in sent)


@pytest.mark.parametrize("kind", [Kind.BAD, Kind.LATE, Kind.FUTURE, Kind.REPEATED])
def test_a_share_turns_on_its_own_fault_only(kind: Kind) -> None:
    sent = messages(Shares(**{kind.value: 0.2}))
    assert {message.kind for message in sent} == {Kind.VALID, kind}
    assert 300 < sum(message.kind is kind for message in sent) < 500


def test_a_share_of_one_makes_all_of_a_kind() -> None:
    assert {message.kind for message in messages(Shares(late=1.0), size=50)} == {Kind.LATE}


def test_late_and_future_records_are_beyond_their_limits_and_the_others_within() -> None:
    for message in messages(SOME):
        if message.kind is Kind.LATE:
            assert age_ms(message) > CONTRACT.lateness_ms
        elif message.kind is Kind.FUTURE:
            assert age_ms(message) < -CONTRACT.future_tolerance_ms
        elif message.kind is not Kind.BAD:
            assert 0 <= age_ms(message) <= CONTRACT.lateness_ms


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
    sent = messages(Shares(repeated=0.5), size=50, step_ms=CONTRACT.lateness_ms + 1_000)
    assert {message.kind for message in sent} == {Kind.VALID}


@given(kept=st.integers(0, 5_000), draw=st.floats(0, 1, exclude_max=True))
@settings(max_examples=50)
def test_recent_messages_are_bounded_and_picked_only_while_fresh(kept: int, draw: float) -> None:
    recent = Recent(max_age_ms=1_000)
    for number in range(kept):
        recent.keep(Message(str(number), b"{}", number, Kind.VALID), number)
    picked = recent.pick(draw, kept + 500)
    assert (picked is None) == (kept == 0)
    assert picked is None or kept + 500 - picked.timestamp_ms <= 1_000
    assert recent.pick(draw, kept + 1_001) is None


def is_valid(value: bytes | None) -> bool:
    """Whether a record passes the rules, as far as a bad one may break them."""
    try:
        record = json.loads((value or b"").decode(), parse_constant=lambda _: None)
        moment = datetime.fromisoformat(record["event_ts"])
    except (ValueError, TypeError, KeyError):
        return False
    texts = [record.get(name) for name in CONTRACT.required if name not in {"amount", "lat", "lon"}]
    numbers = [record.get(name) for name in ("amount", "lat", "lon")]
    return (
        moment.tzinfo is not None
        and all(isinstance(text, str) and 0 < len(text) <= 256 for text in texts)
        and all(type(number) in {int, float} for number in numbers)
        and not any(record[name] in values for name, values in CONTRACT.refused.items())
    )


def test_valid_records_pass_the_check_that_bad_ones_fail() -> None:
    assert all(is_valid(message.value) for message in messages(Shares(), size=200))


@pytest.mark.parametrize("name", SPOILERS)
def test_every_way_to_spoil_a_record_breaks_it(name: str) -> None:
    source, rng = Events(3), seeded("test", 3)
    for number in range(300):
        assert not is_valid(SPOILERS[name](source.event(NOW_MS + number), CONTRACT, rng))


def test_bad_messages_come_in_all_ways_and_keep_their_key() -> None:
    bad = [message for message in messages(Shares(bad=1.0), size=500) if message.kind is Kind.BAD]
    values = [message.value for message in bad]
    assert None in values
    assert b"" in values
    assert any(value and b"NaN" in value for value in values)
    assert any(value and value.startswith(b"[") for value in values)
    assert all(message.key.startswith("card_") for message in bad)
