"""What of a feed decides verdicts is kept on disk, and is read back as it was."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given

from stream_app.feeds import judged
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import feeds_in, load_feeds
from stream_app.settings import PROJECT
from tests.examples import examples
from tests.unit.test_any_feed import feed_of
from tests.unit.test_random_feeds import feeds_and_records

FOLDERS = [PROJECT / "conf" / "feeds", PROJECT / "tests" / "fixtures" / "shapes"]
FILES = [(folder, name) for folder in FOLDERS for name in feeds_in(folder)]


def again(feed: Feed) -> Feed:
    """The feed as it is read of what is kept, with the outputs that decide nothing."""
    found = judged.restored(feed.name, judged.spelled(feed))
    assert found.verdict_digest() == feed.verdict_digest()
    assert found.fields == feed.fields
    outputs = {part: getattr(feed, part) for part in ("dedupe", "windows", "sessions", "totals", "sinks")}
    return found.model_copy(update=outputs)


@pytest.mark.parametrize(("folder", "name"), FILES)
def test_the_feeds_of_the_project_are_read_back_as_they_were(folder: object, name: str) -> None:
    (feed,) = (load_feeds(one, [name])[0] for one in FOLDERS if one == folder)
    assert again(feed) == feed
    assert "\n" not in judged.spelled(feed)


@examples(100)
@given(feeds_and_records())
def test_any_feed_is_read_back_as_it_was(case: tuple[Feed, list[bytes]]) -> None:
    feed, _ = case
    assert again(feed) == feed


def test_numbers_times_and_durations_have_their_types_again() -> None:
    fields = {
        "price": {"type": "decimal(5,2)", "default": Decimal("0.10"), "range": [0, Decimal("99.50")]},
        "day": {"type": "date", "range": [date(1969, 12, 31), date(2026, 11, 21)], "path": ["a.b", "\u2028"]},
        "then": {"type": "timestamp", "default": datetime(2026, 11, 21, 1, tzinfo=UTC)},
        "name": {"type": "struct", "fields": {"number": {"type": "int"}, "seconds": {"type": "int"}}},
        "other": {"type": "string", "references": "names"},
    }
    names = {"file": "x.csv", "key": "id", "columns": {"more": "int"}, "refresh": "999999 hours"}
    feed = feed_of(fields, lookups={"names": names}, rules={"even": {"check": "price > 1", "severity": "warn"}})
    assert again(feed) == feed
    assert again(feed).lookups == feed.lookups
    assert again(feed).rules == feed.rules
    assert judged.spelled(feed).isascii()


@pytest.mark.parametrize("text", ["", "[]", "{}", '"x"', '{"topic": 5}', json.dumps({"topic": "t", "shapes": {}})])
def test_what_is_no_feed_is_told_as_such(text: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).*"):
        judged.restored("any", text)
