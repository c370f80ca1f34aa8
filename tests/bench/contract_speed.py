"""Records a CPU-second of the transactions contract: `python -m tests.bench.contract_speed`.

Goals: 100,000 a second of valid records, and no collapse when one in a hundred is bad.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from stream_app.contract.contract import Contract
from stream_app.feeds.load import load_feeds
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


def records(one_bad_in: int) -> list[bytes]:
    """Distinct records, one in `one_bad_in` with a negative amount; 0 makes all of them valid."""
    made = []
    for i in range(COUNT):
        bad = one_bad_in and i % one_bad_in == 0
        changed = {"txn_id": f"0190f0c4-7d1e-7c3a-9f00-{i:012}", "amount": -1 if bad else i / 100}
        made.append(json.dumps(TEMPLATE | changed, ensure_ascii=i % 2 == 0).encode())
    return made


def rate(values: list[bytes], bad: int) -> float:
    """Return the best of five in CPU-seconds, since other processes share the machine."""
    feed = load_feeds(Path("conf/feeds"), ["transactions"])[0]
    contract = Contract(feed)
    times, planned, arrow = pa.array([KAFKA_TS] * BATCH), pa.array([UNBOUNDED] * BATCH), pa.array(values, pa.binary())
    seconds = []
    for _ in range(5):
        start, rejected = time.process_time(), 0
        for first in range(0, COUNT, BATCH):
            judged = contract.check_all(arrow[first : first + BATCH], times, planned)
            judged.rows()
            rejected += len(judged.rejected)
        seconds.append(time.process_time() - start)
        if rejected != bad:
            raise AssertionError(rejected)
    return len(values) / min(seconds)


if __name__ == "__main__":
    for label, one_bad_in in (("all valid", 0), ("1% bad", 100), ("all bad", 1)):
        sys.stdout.write(
            f"{label:10} {rate(records(one_bad_in), COUNT // one_bad_in if one_bad_in else 0):>10,.0f} records/s\n"
        )
