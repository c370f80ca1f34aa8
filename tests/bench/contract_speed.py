"""Records a CPU-second of the transactions contract: `python -m tests.bench.contract_speed`.

Goals: 100,000 a second of valid records, and no collapse when one in a hundred is bad. With optional and nested fields
120,000 on a quiet machine. A rule costs at most 1 us a record.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from stream_app.contract.contract import Contract
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.feeds.rules import Rule
from stream_app.storage.planned import UNBOUNDED

KAFKA_TS = int(datetime(2026, 11, 21, 1, 47, 10, tzinfo=UTC).timestamp()) * 1_000_000
COUNT, BATCH = 50_000, 10_000
TEMPLATE = {
    "txn_id": "0190f0c4-7d1e-7c3a-9f00-000000000000",
    "event_ts": "2026-11-21T01:47:09.123456Z",
    "user_id": "user-00042",
    "card_id": "card-00042",
    "merchant": "Nguyen, Smith and Sons",
    "category": "groceries",
    "amount": 12.34,
    "currency": "EUR",
    "status": "approved",
    "city": "Köln",
    "country": "DE",
    "lat": 50.93333,
    "lon": 6.95,
}


NESTED = """
[fields.channel]
type = "string"
required = false
[fields.tip]
type = "decimal(18,2)"
required = false
[fields.device_id]
type = "uuid"
required = false
[fields.booked_on]
type = "date"
required = false
[fields.attempts]
type = "int"
default = 1

[fields.customer]
type = "struct"
[fields.customer.fields]
id = { type = "string", length = [1, 64] }
tier = { type = "string", allowed = ["basic", "gold"] }
since = { type = "timestamp" }

[fields.items]
type = "array"
length = [1, 100]
[fields.items.element]
type = "struct"
[fields.items.element.fields]
sku = { type = "string" }
quantity = { type = "int", range = [1, 1000] }
price = { type = "decimal(18,2)" }
"""
"""Five optional fields, a struct of three and an array of structs beside those of transactions."""


def records(one_bad_in: int, *, nested: bool = False, more: bool = False) -> list[bytes]:
    """Distinct records, one in `one_bad_in` with a negative amount; 0 makes all of them valid.

    nested: with the fields of NESTED. more: with two fields that nobody has declared.
    """
    made = []
    for i in range(COUNT):
        bad = one_bad_in and i % one_bad_in == 0
        changed: dict[str, Any] = {"txn_id": f"0190f0c4-7d1e-7c3a-9f00-{i:012}", "amount": -1 if bad else i / 100}
        if nested:
            changed |= _nested(i)
        if more:
            changed |= {"new": i, "meta": {"trace": f"{i:032x}"}}
        made.append(json.dumps(TEMPLATE | changed, ensure_ascii=i % 2 == 0).encode())
    return made


def _nested(i: int) -> dict[str, Any]:
    optional = {"channel": "web", "tip": i / 100, "device_id": f"0190F0C4-7d1e-7c3a-9f00-{i:012}", "booked_on": None}
    customer = {"id": f"customer-{i}", "tier": "gold", "since": "2020-01-01T00:00:00Z"}
    items = [{"sku": f"sku-{n}", "quantity": n + 1, "price": 9.99} for n in range(1 + i % 3)]
    return (optional if i % 2 else {}) | {"customer": customer, "items": items}


def rate(values: list[bytes], bad: int, feed: Feed) -> float:
    """Return the best of five in CPU-seconds, since other processes share the machine."""
    contract = Contract(feed)
    times, planned, arrow = pa.array([KAFKA_TS] * BATCH), pa.array([UNBOUNDED] * BATCH), pa.array(values, pa.binary())
    seconds = []
    for _ in range(5):
        start, rejected = time.process_time(), 0
        for first in range(0, COUNT, BATCH):
            judged = contract.check_all(arrow[first : first + BATCH], times, planned)
            judged.rows()
            contract.undeclared(arrow[first : first + BATCH], judged)
            rejected += len(judged.rejected)
        seconds.append(time.process_time() - start)
        if rejected != bad:
            raise AssertionError(rejected)
    return len(values) / min(seconds)


def main() -> None:
    """Write a line a case."""
    shipped = Path("conf/feeds")
    (feed,) = load_feeds(shipped, ["transactions"])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "nested.toml").write_text((shipped / "transactions.toml").read_text() + NESTED)
        (nested,) = load_feeds(Path(folder), ["nested"])
    for label, one_bad_in in (("all valid", 0), ("1% bad", 100), ("all bad", 1)):
        bad = COUNT // one_bad_in if one_bad_in else 0
        _tell(label, rate(records(one_bad_in), bad, feed))
    by_rule = feed.model_copy(update={"rules": {"large": Rule(check="currency = 'EUR' OR amount < 5000")}})
    _tell("a rule, all valid", rate(records(0), 0, by_rule))
    _tell("a rule, 1% bad", rate(records(100), COUNT // 100, by_rule))
    _tell("nested, 1% bad", rate(records(100, nested=True), COUNT // 100, nested))
    _tell("undeclared fields", rate(records(0, more=True), 0, feed))


def _tell(label: str, records_a_second: float) -> None:
    sys.stdout.write(f"{label:18} {records_a_second:>10,.0f} records/s\n")


if __name__ == "__main__":
    main()
