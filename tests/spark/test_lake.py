"""A lake as Spark writes and reads it: silver's rows in folders by date."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession
from pyspark.sql.types import DateType

from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.feeds.sinks import SinkTable
from stream_app.settings import PROJECT
from stream_app.storage.batch_files import partitions
from tests.helpers import START_MS, Row, at, write_planned
from tests.spark.conftest import Service

DATES = 5_000
DAY_MS = 86_400_000


@pytest.fixture
def feed() -> Feed:
    return load_feeds(PROJECT / "conf" / "feeds", ["user_activity"])[0]


def row(day: int) -> Row:
    fields = {"event_id": f"e{day}", "user_id": "u", "event_type": "click", "page_url": "/", "session_id": "s"}
    more = {"event_time": at(-day * 86_400), "device": "mobile", "country": "DE"}
    return fields | more | {"kafka_ts": at(0), "topic": "user_activity", "partition": 0, "offset": day}


@pytest.mark.faults
@pytest.mark.proves("A lake has each row exactly once")
def test_five_thousand_dates_are_few_folders_and_another_span_divides_a_batch_anew(
    spark: SparkSession, service: Service, feed: Feed
) -> None:
    lake = service.flows["lake"]
    silver = service.flows["silver"]
    write_planned(silver, 0, [row(day) for day in range(DATES)])
    service.drain("lake")
    today = lake.checkpoint.planned(0).time_ms // DAY_MS
    near = 400 + 1 - (today - START_MS // DAY_MS)
    assert len(partitions(lake.layout.output)) == near + 1
    found = spark.read.parquet(str(lake.layout.output))
    assert found.schema["event_date"].dataType == DateType()
    assert found.select("offset").distinct().count() == found.count() == DATES
    assert found.where("event_date = DATE'0001-01-01'").count() == DATES - near
    # as after a death before the commit, and a feed file that was changed meanwhile
    for path in (lake.checkpoint.path / "commits").iterdir():
        path.unlink()
    sinks = {"lake": SinkTable.model_validate({"of": "silver", "to": "lake", "dates": "10 days"})}
    Service(spark, feed.model_copy(update={"sinks": sinks}), service.root).drain("lake")
    found = spark.read.parquet(str(lake.layout.output))
    assert found.select("offset").distinct().count() == found.count() == DATES
    assert found.where("event_date = DATE'0001-01-01'").count() == DATES - (near - 390)
