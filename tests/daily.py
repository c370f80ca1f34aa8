"""The joined tables of gold, computed from the rows of the feeds in the plainest way: the oracle of their SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

Row = dict[str, Any]


def by(rows: Iterable[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by the values of these columns."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def user_days(events: list[Row], payments: list[Row]) -> dict[tuple[Any, ...], Row]:
    """user_daily, as docs/batch.md tells it, in the plainest way."""
    seen, paid = by(events, "event_date", "user_id"), by(payments, "event_date", "user_id")
    made: dict[tuple[Any, ...], Row] = {}
    for place in seen.keys() | paid.keys():
        own, bought = seen.get(place, []), paid.get(place, [])
        done = [row for row in bought if row["status"] == "completed"]
        (currency,) = {row["currency"] for row in done} if len({row["currency"] for row in done}) == 1 else [None]
        times = [row["event_time"] for row in own + bought]
        kinds = Counter(row["event_type"] for row in own)
        made[place] = {
            "event_date": place[0],
            "user_id": place[1],
            "country": max(((row["event_time"], row["country"]) for row in own), default=(None, None))[1],
            "sessions": len({row["session_id"] for row in own}),
            "events": len(own),
            **{f"{kind}s": kinds[kind] for kind in ("login", "logout", "page_view", "purchase")},
            "searches": kinds["search"],
            "adds_to_cart": kinds["add_to_cart"],
            "transactions": len(done),
            "currency": currency,
            "spend": sum(row["amount"] for row in done) if currency else None,
            "first_seen": min(times),
            "last_seen": max(times),
            "rank_in_country": None,
        }
    for (_, country, currency), rows in by(made.values(), "event_date", "country", "currency").items():
        for row in rows if country and currency else []:
            row["rank_in_country"] = 1 + sum(other["spend"] > row["spend"] for other in rows)
    return made


def product_days(payments: list[Row]) -> dict[tuple[Any, ...], Row]:
    """product_daily, as docs/batch.md tells it, in the plainest way."""
    done = [row for row in payments if row["status"] == "completed"]
    sold = [{**row, **item, "revenue": item["quantity"] * item["unit_price"]} for row in done for item in row["items"]]
    made: dict[tuple[Any, ...], Row] = {}
    for place, rows in by(sold, "event_date", "product_id", "currency").items():
        total = sum(row["revenue"] for row in sold if (row["event_date"], row["currency"]) == place[::2])
        week = [row for row in sold if (row["product_id"], row["currency"]) == place[1:]]
        week = [row for row in week if timedelta(0) <= place[0] - row["event_date"] <= timedelta(6)]
        revenue = sum(row["revenue"] for row in rows)
        made[place] = {
            **dict(zip(("event_date", "product_id", "currency"), place, strict=True)),
            "units": sum(row["quantity"] for row in rows),
            "revenue": revenue,
            "buyers": len({row["user_id"] for row in rows}),
            "share_of_day": pytest.approx(float(revenue / total), abs=1e-6) if total else None,
            "revenue_7_days_average": (sum(row["revenue"] for row in week) / 7).quantize(
                Decimal("0.01"), ROUND_HALF_UP
            ),
        }
    return made
