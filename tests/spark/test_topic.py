"""What a topic sink sends, to the byte: consumers rely on it, and a replay sends it again."""

from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.sinks.kafka import KafkaSink, messages
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
