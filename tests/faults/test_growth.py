"""A feed grows while the service is down, in mid-stream: nothing is reset, and one start of it dies."""

from __future__ import annotations

import json
import re
import time
from decimal import Decimal
from pathlib import Path

import pytest

from tests.service.harness import Service, quick
from tests.service.servers import Database, KafkaBroker

OLD = """
topic = "purchases"
[fields.id]
type = "string"
[fields.at]
type = "timestamp"
[fields.customer]
type = "string"
[fields.amount]
type = "decimal(8,2)"
[fields.count]
type = "int"
[fields.ratio]
type = "float"
[fields.cart]
type = "struct"
fields = { items = { type = "int" } }
[event_time]
field = "at"
lateness = "2 hours"
future_tolerance = "1 minute"
[dedupe]
key = "id"
within = "1 hour"
[windows.by_customer]
key = "customer"
window = "1 minute"
watermark = "1 minute"
measures = { purchases = "count" }
[sinks.raw_csv]
of = "silver"
to = "csv"
[sinks.lake]
of = "silver"
to = "lake"
[sinks.out]
of = "silver"
to = "kafka"
topic = "purchases-out"
[sinks.purchases_table]
of = "silver"
to = "postgres"
table = "purchases"
[sinks.fresh]
of = "by_customer"
to = "postgres"
table = "by_customer"
"""
CHANGES = {
    'type = "decimal(8,2)"': 'type = "decimal(12,4)"',
    'type = "int"\n[fields.ratio]\ntype = "float"': 'type = "long"\n[fields.ratio]\ntype = "double"',
    '{ items = { type = "int" } }': '{ items = { type = "long" }, coupon = { type = "string", required = false } }',
    "[fields.customer]": '[fields.note]\ntype = "string"\nrequired = false\n[fields.customer]',
}
MORE = """
[rules.even]
check = "count % 2 = 0"
severity = "warn"
[windows.by_note]
key = "note"
window = "1 minute"
watermark = "10 minutes"
measures = { purchases = "count", most = "max(count)" }
[sessions.visits]
keys = ["customer"]
gap = "1 minute"
watermark = "1 minute"
[sinks.windows_csv]
of = "by_customer"
to = "csv"
"""
COUNT = 300


def grown() -> str:
    """The feed file as it is changed: a field and a member, wider types, a rule that warns, three outputs."""
    text = OLD
    for old, new in CHANGES.items():
        assert old in text
        text = text.replace(old, new)
    return text + MORE


def purchases(first: int, now: float, **changed: object) -> list[tuple[str, bytes, int]]:
    """Records of a producer that is ahead of the feed file: it sends what nobody has declared yet."""
    found = []
    for number in range(first, first + COUNT):
        at = now - 3600 + number * 2 + (600 if number >= COUNT else 0)  # a pause, by which sessions end
        record: dict[str, object] = {
            "id": f"p{number}",
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
            "customer": f"c{number % 5}",
            "note": "gift",
            "amount": 12.5,
            "count": number,
            "ratio": 0.1,
            "cart": {"items": 3, "coupon": "X1"},
        }
        if number % 100 == 50:  # hostile
            record["count"] = "many"
        found.append((f"c{number % 5}", json.dumps(record | changed).encode(), int(at * 1000)))
    return found


@pytest.mark.proves("Outputs grow in place")
def test_a_feed_grows_in_mid_stream_and_nothing_is_reset(
    broker: KafkaBroker, database: Database, class_archive: Path, tmp_path: Path
) -> None:
    for topic in ("purchases", "purchases-out"):
        broker.create_topic(topic)
    feeds = tmp_path / "feeds"
    feeds.mkdir()
    file = feeds / "purchases.toml"
    environment = quick(tmp_path, class_archive) | {"DATABASE_URL": database.url, "MAX_OFFSETS_PER_TRIGGER": "100"}
    service = Service(tmp_path / "output", feeds, broker.address, environment, "purchases")
    now = time.time()
    file.write_text(OLD)
    broker.send("purchases", purchases(0, now))
    service.drain()
    before = service.contents("silver")
    assert len(before) == COUNT - 3

    file.write_text(grown())
    broker.send("purchases", purchases(COUNT, now, amount=1.2345, count=2**40))
    service.start(TRIGGER_INTERVAL="available-now", FAIL_POINT="purchases.raw_csv:renamed")
    service.end(-9)
    assert service.audit().wrong == []
    log = service.drain(MAX_FILES_PER_SINK="2")

    assert re.search(r"purchases.silver has grown after batch \d+: amount was decimal\(8,2\) and is decimal", log)
    assert log.count("has grown after batch") == 5, "silver and what follows it, once each"
    assert service.audit().wrong == []
    assert any(file.is_compacted for file in service.flows["silver"].files())
    shown = "id, note, amount, count, ratio, cart.items, cart.coupon"
    old, new = (service.query(f"SELECT {shown} FROM silver WHERE id = '{name}'") for name in ("p7", "p307"))
    assert old == [("p7", None, Decimal("12.5000"), 7, 0.10000000149011612, 3, None)]
    assert new == [("p307", "gift", Decimal("1.2345"), 2**40, 0.1, 3, "X1")]
    assert service.count("silver") == service.count("raw_csv") == service.count("lake") == 2 * COUNT - 3
    warned = service.query("SELECT warnings, count(*) FROM silver GROUP BY ALL ORDER BY ALL")
    assert warned == [([], COUNT), (None, COUNT - 3)]
    in_table = database.query(
        "SELECT note, count(*), sum(amount), min(count), cart -> 'coupon' FROM purchases GROUP BY 1, 5"
    )
    assert sorted(in_table, key=str) == sorted(
        [
            (None, COUNT - 3, Decimal("12.5000") * (COUNT - 3), 0, None),
            ("gift", COUNT, Decimal("1.2345") * COUNT, 2**40, "X1"),
        ],
        key=str,
    )
    # what was added has read everything, from the first batch on
    for output in ("by_note", "visits", "windows_csv"):
        assert service.count(output) > 0
    ((counted,),) = service.query("SELECT sum(purchases) FROM by_note WHERE note IS NULL")
    assert counted == COUNT - 3
    assert 'cart":{"items":3}' in str(broker.records("purchases-out").values())
    printed = service.op("query", SQL="SELECT note, count(*) AS number FROM silver GROUP BY ALL ORDER BY ALL")
    assert "gift" in printed
    assert "NULL" in printed
