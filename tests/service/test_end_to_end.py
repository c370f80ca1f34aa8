"""The main path on a real broker and a real spark-submit: records in, files out."""

from __future__ import annotations

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from stream_app.feeds.sql import text
from stream_app.storage.batch_files import data_paths
from tests.service.drained import ABORTED, COUNT, Drained
from tests.service.harness import Service

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


@pytest.fixture(scope="module")
def service(drained: Drained) -> Service:
    """What became of records of a fixed seed with every kind of fault."""
    return drained["transactions"]


@pytest.mark.proves("Nothing is lost and nothing is twice", "bronze", "quarantine", "silver")
@pytest.mark.proves("Repeats are dropped")
def test_every_record_is_accounted_for_and_the_layers_agree(service: Service) -> None:
    (bronze,) = service.query('SELECT count(*), count(DISTINCT (partition, "offset")) FROM bronze')
    assert bronze == (COUNT, COUNT)
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


def test_the_audit_finds_nothing(service: Service) -> None:
    report = service.audit()
    assert report.wrong == []
    assert report.counts["bronze"] == COUNT
    assert "nothing lost, nothing twice" in service.op("audit", FEED="transactions")


@pytest.mark.proves("Aborted transactions are in no layer")
def test_records_of_an_aborted_transaction_are_in_no_layer(service: Service) -> None:
    """Bronze has their offsets passed over."""
    rows = service.query('SELECT value, "offset" FROM bronze')
    assert [value for value, _ in rows if b"t01" in (value if isinstance(value, bytes) else b"")] == []
    assert len(rows) == COUNT
    ends = service.query('SELECT max("offset") + 1 FROM bronze GROUP BY partition')
    assert sum(int(str(end)) for (end,) in ends) >= COUNT + ABORTED


@pytest.mark.proves("Nothing is lost and nothing is twice", "windows")
def test_gold_is_silver_s_aggregate(service: Service) -> None:
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


@pytest.mark.proves("Nothing is lost and nothing is twice", "csv")
def test_the_csv_is_silver(service: Service) -> None:
    """The CSV holds silver's declared columns, a formula made harmless."""
    columns = ", ".join(FIELDS)
    shown = columns.replace("merchant", "regexp_replace(merchant, '^([=+\\-@\\t\\r\\n])', '''\\1') AS merchant")
    assert service.query(f"SELECT {columns} FROM raw_csv ORDER BY ALL") == service.query(
        f"SELECT {shown} FROM silver ORDER BY ALL"
    )


def test_any_reader_of_plain_files_reads_them(service: Service) -> None:
    """Each is read by DuckDB and pandas as a plain folder, with the design's columns and types (Spark: tests/spark)."""
    for layer, columns in COLUMNS.items():
        folder = service.flows[layer].layout.output
        frame = pd.read_parquet(folder)
        assert list(frame.columns) == columns
        assert len(frame) == service.count(layer)
        assert duckdb.sql(f"SELECT * FROM {text(f'{folder}/*.parquet')}").columns == columns
        for path in data_paths(folder):
            schema = pq.read_schema(path)
            for (of, column), type_name in TYPES.items():
                assert of != layer or str(schema.field(column).type) == type_name, (path, column)
    csv = service.flows["raw_csv"].layout.output
    frames = [pd.read_csv(path) for path in data_paths(csv)]
    assert all(list(frame.columns) == FIELDS for frame in frames)
    assert sum(map(len, frames)) == service.count("silver")
