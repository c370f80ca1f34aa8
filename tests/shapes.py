"""Records of our own in shapes that are well known: what a repository, a payment, a table, a sensor and a page send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """A kind of record."""

    record: Callable[[int], dict[str, Any]]
    """The record of that number, a second after the one before, from 2026-01-01T00:00:00Z."""
    time: str
    """The path of the time at which it happened."""
    types: dict[str, str]
    """What its members are, as feed-new has them."""


def _time(number: int) -> str:
    return f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z"


def _push(number: int) -> dict[str, Any]:
    """As a repository's host tells of a push."""
    author = {"name": "Ada", "email": "ada@example.org", "username": None if number % 7 == 0 else "ada"}
    commits = [
        {
            "id": f"{number:020x}{i:020x}",
            "message": "Fix a typo",
            "timestamp": _time(number),
            "author": author,
            "added": [],
            "removed": [],
            "modified": ["README.md"] * (i + 1),
        }
        for i in range(number % 3 + 1)
    ]
    return {
        "delivery": f"72d3162e-cc78-11e3-81ab-{number:012x}",
        "ref": "refs/heads/main",
        "forced": number % 10 == 0,
        "base_ref": None,
        "repository": {
            "id": 35_129_377,
            "name": "paper",
            "private": False,
            "created_at": "2019-05-15T15:20:18Z",
            "topics": [],
        },
        "sender": {"login": "ada", "id": 6_752_317, "site_admin": False},
        "commits": commits,
        "sent_at": _time(number),
    }


def _clicked(number: int) -> dict[str, Any]:
    """As a page's script tells of a click."""
    return {
        "messageId": f"ajs-{number:032x}",
        "anonymousId": f"507f191e-810c-4197-b9de-{number % 5:012x}",
        "userId": None if number % 2 else f"u{number % 9}",
        "event": "Product Viewed",
        "type": "track",
        "properties": {"sku": f"g-{number}", "price": 18.99 if number % 2 else 20, "position": number % 3},
        "context": {
            "ip": "203.0.113.7",
            "userAgent": "Mozilla/5.0",
            "page": {"path": "/p", "referrer": "", "url": "https://example.org/p"},
            "campaign": {} if number % 4 else {"source": "mail", "medium": "email"},
            "screen": {"width": 1280, "height": 720, "density": 2},
        },
        "originalTimestamp": _time(number),
        "timestamp": _time(number),
        "version": 1,
    }


def _reading(number: int) -> dict[str, Any]:
    """As a sensor sends what it measured since the last time."""
    samples = [{"t": i * 0.5, "value": 20 + i / 8, "ok": True} for i in range(number % 4)]
    return {
        "reading_id": f"s-{number}",
        "device": {"id": "a1:b2", "fw": "1.4.2", "battery": None if number % 3 else 3.7},
        "measured_at": _time(number),
        "unit": "C",
        "samples": samples,
        "location": [52.5, 13.4],
    }


def _charged(number: int) -> dict[str, Any]:
    """As a payment service tells of a charge."""
    return {
        "id": f"evt_{number:024d}",
        "object": "event",
        "api_version": "2024-06-20",
        "created": 1_767_225_600 + number,
        "type": "charge.succeeded" if number % 5 else "charge.failed",
        "livemode": False,
        "data": {
            "object": {
                "id": f"ch_{number:024d}",
                "amount": 1099 + number,
                "currency": "eur",
                "captured": number % 5 > 0,
                "failure_code": None if number % 5 else "card_declined",
                "metadata": {"order_id": f"o-{number}"} if number % 3 else {},
                "payment_method_details": {"card": {"brand": "visa", "exp_month": 8, "last4": "4242"}},
            }
        },
    }


def _changed(number: int) -> dict[str, Any]:
    """As a database's log tells of a row that changed."""
    row = {"id": number // 3, "email": "ada@example.org", "balance": 12.5 + number, "since": 18_262}
    ms = 1_767_225_600_000 + number * 1000
    source = {"version": "2.6.0", "db": "shop", "table": "customers", "lsn": 24_023_128 + number * 56, "ts_ms": ms - 40}
    return {
        "op": "crud"[number % 3] if number % 3 != 2 else "d",
        "before": None if number % 3 == 0 else row,
        "after": None if number % 3 == 2 else row,
        "source": source,
        "ts_ms": ms,
        "transaction": None,
    }


SHAPES = {
    "card charge": Shape(
        _charged,
        "created",
        {
            "id": "string",
            "object": "string",
            "api_version": "date",
            "created": "timestamp",
            "type": "string",
            "livemode": "boolean",
            "data": "struct",
        },
    ),
    "change record": Shape(
        _changed,
        "ts_ms",
        {
            "op": "string",
            "before": "struct",
            "after": "struct",
            "source_version": "string",
            "source_db": "string",
            "source_table": "string",
            "source_lsn": "long",
            "source_ts_ms": "timestamp",
            "ts_ms": "timestamp",
        },
    ),
    "repository webhook": Shape(
        _push,
        "sent_at",
        {
            "delivery": "uuid",
            "ref": "string",
            "forced": "boolean",
            "repository": "struct",
            "sender": "struct",
            "commits": "array",
            "sent_at": "timestamp",
        },
    ),
    "clickstream event": Shape(
        _clicked,
        "timestamp",
        {
            "message_id": "string",
            "anonymous_id": "uuid",
            "user_id": "string",
            "event": "string",
            "type": "string",
            "properties": "struct",
            "context": "struct",
            "original_timestamp": "timestamp",
            "timestamp": "timestamp",
            "version": "long",
        },
    ),
    "sensor reading": Shape(
        _reading,
        "measured_at",
        {
            "reading_id": "string",
            "device": "struct",
            "measured_at": "timestamp",
            "unit": "string",
            "samples": "array",
            "location": "array",
        },
    ),
}
