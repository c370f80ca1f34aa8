"""What a topic sink sends, to the byte: consumers rely on it, and a replay sends it again."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.sinks import json_text
from stream_app.sinks.kafka import KafkaSink, messages
from tests.examples import examples
from tests.helpers import silver_row

# As commit c6c8daf sent it.
VALUE = (
    '{"txn_id":"t7","event_time":"1969-12-31T23:59:59.000001Z","user_id":"user-1","card_id":"card-1",'
    '"merchant":"Mü \\"x\\" \\\\ / \\t\\u0001\u2028","category":"food","amount":1200.50,"currency":"EUR",'
    '"status":"approved","city":"Jena","country":"DE","lat":50.900011428571425,"lon":-8.0E-7,'
    '"kafka_ts":"2026-11-21T01:00:00.250000Z","topic":"transactions","partition":0,"offset":7,'
    '"processing_time":"2026-11-21T01:00:30.500000Z"}'
)


def test_the_message_of_a_row(feed: Feed) -> None:
    changed = {"merchant": 'Mü "x" \\ / \t\x01\u2028', "amount": Decimal("1200.50")}
    places = {"lat": 50.900011428571425, "lon": -8e-7, "event_time": datetime(1969, 12, 31, 23, 59, 59, 1, UTC)}
    row = silver_row(7, 0.25, **changed, **places)
    table = pa.Table.from_pylist([row], to_arrow_schema(schema.silver(feed), timezone="UTC"))
    declared = KafkaSink(of="silver", to="kafka", topic="t", key="card_id", headers=("txn_id", "card_id", "merchant"))
    time_ms = round(datetime(2026, 11, 21, 1, 0, 30, 500_000, UTC).timestamp() * 1000)
    (rows,) = table.to_batches()
    (found,) = messages(rows, declared, time_ms).to_pylist()
    key, value, partition, offset, *headers = found.values()
    assert (key, value.decode(), partition, offset) == (b"card-1", VALUE, 0, 7)
    assert [header.decode() for header in headers] == ["t7", "card-1", changed["merchant"]]


def test_a_key_of_several_columns_is_an_object_of_them(feed: Feed) -> None:
    places = {"lat": 0.5, "city": None, "merchant": 'a"b'}
    table = pa.Table.from_pylist([silver_row(7, 0.25, **places)], to_arrow_schema(schema.silver(feed), timezone="UTC"))
    columns = ("merchant", "city", "lat", "event_time")
    declared = KafkaSink.model_validate({"of": "silver", "to": "kafka", "topic": "t", "key": columns})
    (found,) = messages(table.to_batches()[0], declared, 0).to_pylist()
    assert found["key"] == b'{"merchant":"a\\"b","lat":0.5,"event_time":"2026-11-21T01:00:00.250000Z"}'


TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[object]]] = {
    "text": (pa.string(), TEXTS),
    "whole": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "named": (pa.map_(pa.string(), pa.int64()), st.dictionaries(TEXTS, st.integers(-9, 9), max_size=3)),
    "small": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "yes": (pa.bool_(), st.booleans()),
    "at": (pa.timestamp("us", "UTC"), TIMES),
    "day": (pa.date32(), st.dates(date(1, 1, 2), date(9999, 12, 30))),
    "amount": (pa.decimal128(20, 2), st.decimals(-(10**17), 10**17, places=2)),
    "fine": (pa.decimal128(38, 12), st.decimals(-(10**20), 10**20, places=12)),
    "raw": (pa.binary(), st.binary()),
    "texts": (pa.list_(pa.string()), st.lists(st.none() | TEXTS, max_size=3)),
    "inner": (
        pa.struct([("at", pa.timestamp("us", "UTC")), ("name", pa.string())]),
        st.fixed_dictionaries({"at": st.none() | TIMES, "name": st.none() | TEXTS}),
    ),
    "ratio": (pa.float64(), st.floats()),
}


@examples(40, HealthCheck.function_scoped_fixture)
@given(st.lists(st.fixed_dictionaries({name: st.none() | values for name, (_, values) in COLUMNS.items()}), min_size=1))
def test_any_row_is_what_spark_s_to_json_makes_of_it(spark: SparkSession, rows: list[dict[str, object]]) -> None:
    """To the byte, but for doubles: Java 17 shows some with a digit too many, and so they are compared as numbers."""
    batch = pa.RecordBatch.from_pylist(rows, pa.schema({name: kind for name, (kind, _) in COLUMNS.items()}))
    frame = spark.createDataFrame(pa.Table.from_batches([batch]))
    options = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'"}
    made = frame.select(F.to_json(F.struct("*"), options).alias("json")).collect()
    found = json_text.objects(batch).to_pylist()
    assert [_without_doubles(text) for text in found] == [_without_doubles(row.json) for row in made]


def _without_doubles(text: str) -> tuple[str, Mapping[str, Any]]:
    """The text up to its last key, `ratio`, and what that is read as."""
    plain, key, _ = text.rpartition('"ratio":')
    return (plain, {"ratio": json.loads(text)["ratio"]}) if key and text.endswith("}") else (text, {})
