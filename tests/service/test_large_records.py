"""Records as large as a broker takes them go through every layer and sink, and the audit."""

import time
from collections.abc import Callable

from stream_app.ops.status import statuses
from tests.service.harness import Service, transaction
from tests.service.servers import PARTITIONS, KafkaBroker

MEGABYTE = 1_000_000
SIZES = [5, 30, 60, 99]


def test_large_records_go_through(new_service: Callable[..., Service], broker: KafkaBroker) -> None:
    """Valid ones, whose text is what is large, others that are no JSON, and some KB that become 120 MB."""
    topic = f"large-{time.time_ns()}"
    broker.create_topic(topic, PARTITIONS, **{"max.message.bytes": "104000000"})
    service = new_service(broker, topic)
    feed = service.feeds_path / "transactions.toml"
    declared = feed.read_text().replace(
        '[fields.merchant]\ntype = "string"\nlength = [1, 256]\n', '[fields.merchant]\ntype = "string"\n'
    )
    feed.write_text(declared + "\n[lakes.lake]\n")
    now = time.time() - 600
    limits = {"message.max.bytes": 104_000_000, "queue.buffering.max.kbytes": 1_000_000}
    for number, size in enumerate(SIZES):
        valid = transaction(number, now + number, merchant='"' + "m" * (size * MEGABYTE))
        for record in (valid, ("", b"\xff" * (size * MEGABYTE), valid[2])):
            broker.send(topic, [record], **limits)
    zeros = ("", bytes(120 * MEGABYTE), int(now * 1000))
    broker.send(topic, [zeros], **limits | {"message.max.bytes": 1_000_000_000, "compression.type": "zstd"})
    broker.send(topic, [transaction(100 + i, now + i) for i in range(100)])
    service.drain()
    report = service.audit()
    assert report.wrong == []
    for layer, rows in {"bronze": 109, "silver": 104, "quarantine": 5, "raw_csv": 104, "lake": 104}.items():
        assert service.count(layer) == rows, layer
    assert {row.sink: row.rows for row in statuses(service.root, tuple(service.flows.values()))}["raw_csv"] == 104
    sizes = service.query("SELECT length(merchant) FROM silver WHERE length(merchant) > 1000 ORDER BY 1")
    assert sizes == [(size * MEGABYTE + 1,) for size in SIZES]
    sizes = service.query("SELECT octet_length(value), length(value_text) FROM quarantine ORDER BY 1")
    assert sizes == [(size * MEGABYTE, size * MEGABYTE) for size in [*SIZES, 120]]
    assert service.query("SELECT max(length(merchant)) FROM raw_csv") == [(99 * MEGABYTE + 1,)]
