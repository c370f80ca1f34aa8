"""Every name and path of a query derives from its feed and layer, as the design lists them."""

from pathlib import Path

from pyspark.sql.types import DecimalType, IntegerType, LongType, StringType, TimestampType

from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.sinks.registry import flows
from tests.helpers import flow_of

COORDINATES = ["kafka_ts", "topic", "partition", "offset"]
TEXTS = ["currency", "status", "city", "country"]
FIELDS = ["txn_id", "event_time", "user_id", "card_id", "merchant", "category", "amount", *TEXTS, "lat", "lon"]


def test_every_name_and_path_derives_from_the_flow(feed: Feed) -> None:
    flow = flow_of(feed, "raw_csv", Path("root"))
    assert flow.name == "transactions.raw_csv"
    assert flow.layout.output == Path("root/transactions/raw_csv")
    assert flow.checkpoint.path == Path("root/transactions/_chk/raw_csv")
    assert flow.layout.staging == Path("root/transactions/raw_csv/_staging")


def test_a_sink_follows_its_dataset_and_a_dataset_its_upstream(feed: Feed) -> None:
    bronze, _quarantine, silver, _gold, raw_csv = flows([feed], Path("root"))
    assert [flow.sink for flow in bronze.with_downstream()] == [*("bronze", "quarantine", "silver", "gold", "raw_csv")]
    assert [flow.sink for flow in silver.with_downstream()] == ["silver", "gold", "raw_csv"]
    assert raw_csv.upstream == silver
    assert bronze.upstream is None


def test_columns_are_those_of_the_design(feed: Feed) -> None:
    assert schema.BRONZE.names == ["key", "value", "headers", *COORDINATES]
    assert schema.QUARANTINE.names == ["key", "value", "value_text", "reasons", *COORDINATES]
    assert schema.silver(feed).names == [*FIELDS, *COORDINATES]
    assert schema.silver(feed)["amount"].dataType == DecimalType(18, 2)
    assert schema.silver(feed)["event_time"].dataType == TimestampType()
    types = [field.dataType for field in schema.COORDINATES]
    assert types == [TimestampType(), StringType(), IntegerType(), LongType()]
