"""The main path on a real broker and a real spark-submit: records in, files out."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq

from stream_app.flows.flow import Layer
from stream_app.ops.sql import text
from stream_app.storage.batch_files import data_paths
from tests.service.harness import Service, produce, transaction, wait_for
from tests.service.servers import KafkaBroker

COUNT = 20_000
COORDINATES = ["kafka_ts", "topic", "partition", "offset"]
FIELDS = [
    *("txn_id", "event_time", "user_id", "card_id", "merchant", "category", "amount"),
    *("currency", "status", "city", "country", "lat", "lon"),
]
COLUMNS = {
    "bronze": ["key", "value", "headers", *COORDINATES],
    "quarantine": ["key", "value", "value_text", "reasons", *COORDINATES],
    "silver": [*FIELDS, *COORDINATES],
    "gold": ["window_start", "window_end", "card_id", "txn_count", "sum_amount", "avg_amount", "max_amount"],
}
TYPES = {
    ("bronze", "key"): "string",
    ("bronze", "value"): "binary",
    ("bronze", "partition"): "int32",
    ("bronze", "offset"): "int64",
    ("quarantine", "reasons"): "list<element: string>",
    ("silver", "event_time"): "timestamp[us, tz=UTC]",
    ("silver", "amount"): "decimal128(18, 2)",
    ("silver", "lat"): "double",
    ("silver", "kafka_ts"): "timestamp[us, tz=UTC]",
    ("gold", "window_start"): "timestamp[us, tz=UTC]",
    ("gold", "sum_amount"): "decimal128(28, 2)",
}


def test_every_record_is_accounted_for_and_the_layers_agree(service: Service) -> None:
    """20,000 records of a fixed seed with every kind of fault, all through the service."""
    shares = {"BAD_SHARE": "0.02", "LATE_SHARE": "0.01", "FUTURE_SHARE": "0.01", "REPEAT_SHARE": "0.02"}
    produce(service, COUNT=str(COUNT), SEED="7", MSGS_PER_SEC="0", **shares)
    service.drain(MAX_OFFSETS_PER_TRIGGER="6000")
    (bronze,) = service.query('SELECT count(*), count(DISTINCT (partition, "offset")), max("offset") FROM bronze')
    assert bronze[:2] == (COUNT, COUNT)
    both = service.query('SELECT count(*) FROM silver JOIN quarantine USING (partition, "offset")')
    assert both == [(0,)]
    silver, quarantine = service.count("silver"), service.count("quarantine")
    repeats = service.query(
        'SELECT count(*), count(s.txn_id) FROM (SELECT * FROM bronze ANTI JOIN silver USING (partition, "offset") '
        'ANTI JOIN quarantine USING (partition, "offset")) b '
        "LEFT JOIN (SELECT DISTINCT txn_id FROM silver) s ON decode(b.value)::JSON ->> 'txn_id' = s.txn_id"
    )
    assert repeats[0][0] == repeats[0][1], "what is in neither must repeat what silver holds"
    assert silver + quarantine + int(str(repeats[0][0])) == COUNT
    assert min(silver, quarantine, int(str(repeats[0][0]))) > 100, "the input must hold every kind"
    assert service.query("SELECT count(*) = count(DISTINCT txn_id) FROM silver") == [(True,)]
    kinds = {str(r[0]).split(":")[0] for r in service.query("SELECT DISTINCT unnest(reasons) FROM quarantine")}
    assert {"late", "future", "not_json", "missing", "bad_type", "bad_time", "out_of_range", "not_allowed"} <= kinds
    _check_gold(service)
    _check_csv(service)
    _check_folders(service)
    assert service.audit().wrong == []


def _check_gold(service: Service) -> None:
    """Gold is silver's aggregate over the final windows, to the cent, each window once."""
    (watermark,) = service.query("SELECT max(event_time) - INTERVAL 5 minutes FROM silver")
    silver = service.query(
        "SELECT w, card_id, count(*), sum(amount), round(sum(amount) / count(*), 2), max(amount) FROM "
        "(SELECT *, time_bucket(INTERVAL 1 minute, event_time) AS w FROM silver) "
        f"WHERE w + INTERVAL 1 minute <= TIMESTAMPTZ '{watermark[0]}' GROUP BY ALL ORDER BY ALL"
    )
    gold = service.query(
        "SELECT window_start, card_id, txn_count, sum_amount, round(avg_amount, 2), max_amount FROM gold ORDER BY ALL"
    )
    assert len(gold) > 100
    assert [row[:4] + row[5:] for row in gold] == [row[:4] + row[5:] for row in silver]
    assert all(abs(float(str(g[4])) - float(str(s[4]))) <= 0.0101 for g, s in zip(gold, silver, strict=True))
    assert service.query("SELECT DISTINCT window_end - window_start = INTERVAL 1 minute FROM gold") == [(True,)]


def _check_csv(service: Service) -> None:
    """The CSV holds silver's declared columns, a formula made harmless."""
    columns = ", ".join(FIELDS)
    shown = columns.replace("merchant", "regexp_replace(merchant, '^([=+\\-@\\t\\r\\n])', '''\\1') AS merchant")
    assert service.query(f"SELECT {columns} FROM raw_csv ORDER BY ALL") == service.query(
        f"SELECT {shown} FROM silver ORDER BY ALL"
    )


def _check_folders(service: Service) -> None:
    """Each is read by DuckDB and pandas as a plain folder, with the design's columns and types (Spark: tests/spark)."""
    for layer, columns in COLUMNS.items():
        folder = service.flows[Layer(layer)].layout.output
        frame = pd.read_parquet(folder)
        assert list(frame.columns) == columns
        assert len(frame) == service.count(layer)
        assert duckdb.sql(f"SELECT * FROM {text(f'{folder}/*.parquet')}").columns == columns
        for path in data_paths(folder):
            schema = pq.read_schema(path)
            for (of, column), type_name in TYPES.items():
                assert of != layer or str(schema.field(column).type) == type_name, (path, column)
    csv = service.flows[Layer.RAW_CSV].layout.output
    frames = [pd.read_csv(path) for path in data_paths(csv)]
    assert all(list(frame.columns) == FIELDS for frame in frames)
    assert sum(map(len, frames)) == service.count("silver")


def test_a_stop_and_a_start_mid_stream_and_a_replayed_batch_change_nothing(
    service: Service, broker: KafkaBroker
) -> None:
    now = time.time()
    records = [transaction(i, now - 1200 + i * 0.6) for i in range(2000)]
    service.start()
    broker.send(service.feed.topic, records[:1000])
    wait_for(lambda: service.count("silver") >= 500, "the first rows of silver")
    log = service.stop()
    assert "stopped" in log
    broker.send(service.feed.topic, records[1000:])
    service.drain()
    before = _bytes(service)
    for flow in service.flows.values():
        last = flow.checkpoint.last_committed()
        assert last
        for name in (str(last.batch_id), f".{last.batch_id}.crc"):
            (flow.checkpoint.path / "commits" / name).unlink(missing_ok=True)
    service.drain()
    assert {path: data for path, data in _bytes(service).items() if path in before} == before
    assert Counter(map(str, service.query("SELECT txn_id FROM silver"))).most_common(1)[0][1] == 1
    assert service.count("silver") == service.count("raw_csv") == len(records)
    assert service.audit().wrong == []


def _bytes(service: Service) -> dict[Path, bytes]:
    return {path: path.read_bytes() for flow in service.flows.values() for path in data_paths(flow.layout.output)}
