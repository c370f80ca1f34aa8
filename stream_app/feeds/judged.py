"""What of a feed decides verdicts, as JSON to keep on disk: the rules of before are needed until all is judged by them.

JSON has no decimals, dates and durations: each is an object of one key, whose `$` no name of a feed file can have.
"""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from stream_app.feeds.feed import Feed

_PARTS = {"topic", "fields", "rules", "event_time", "lookups", "wire"}
"""All that `Feed.verdict_digest` is made of, and what a feed cannot be without."""


def spelled(feed: Feed) -> str:
    """Return the part of the feed that verdicts depend on, as one line of JSON."""
    declared = feed.model_dump(include=_PARTS, exclude_defaults=True)
    return json.dumps(declared, default=_tagged)


def restored(name: str, text: str) -> Feed:
    """Return the feed of that name as `spelled` has it. Raises ValueError where this version takes no such feed."""
    declared = json.loads(text, object_hook=_value)
    if not isinstance(declared, dict):
        raise ValueError(text)
    return Feed.model_validate({**declared, "name": name})


def _tagged(value: object) -> dict[str, object]:
    if isinstance(value, Decimal):
        return {"$number": str(value)}
    if isinstance(value, datetime):  # which is a date, too
        return {"$time": value.isoformat()}
    if isinstance(value, date):
        return {"$date": value.isoformat()}
    if isinstance(value, timedelta):
        return {"$seconds": value // timedelta(seconds=1)}
    raise TypeError(value)


def _value(found: dict[str, Any]) -> object:
    match found:
        case {"$number": number}:
            return Decimal(number)
        case {"$time": time}:
            return datetime.fromisoformat(time)
        case {"$date": day}:
            return date.fromisoformat(day)
        case {"$seconds": seconds}:
            return timedelta(seconds=seconds)
    return found
