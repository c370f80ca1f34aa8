"""The baseline: what tutorials teach, kept small and honest. `spark-submit baseline.py <brokers> <folder> <batch>`.

Five streaming queries. Each reads Kafka, parses with from_json into a column, filters on its fields, and writes each
batch as one file to a staging folder, from where it is renamed. No dedupe, one reason a record, no recovery of a
staging folder after a crash. It stands alone, as a tutorial's file does; its log lines are like the service's.

The rules are as cheap as can be while they still give each of the benchmark's records the service's verdict (what
from_json lets pass, from 42 as a text to text after the object, is caught by the plainest condition that does).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

TOPIC = "transactions"
SCHEMA = """
    txn_id STRING, event_ts STRING, user_id STRING, card_id STRING, merchant STRING, category STRING, amount DOUBLE,
    currency STRING, status STRING, city STRING, country STRING, lat DOUBLE, lon DOUBLE
"""
JSON_OPTIONS = {"allowNonNumericNumbers": "false"}
CURRENCIES = [
    "AED", "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "IDR", "ILS", "INR", "JPY",
    "KRW", "MXN", "MYR", "NOK", "NZD", "PHP", "PLN", "RON", "SEK", "SGD", "THB", "TRY", "USD", "ZAR",
]  # fmt: skip
MINUTE = 60_000_000
FIELDS = (
    "txn_id", "event_time", "user_id", "card_id", "merchant", "category", "amount", "currency", "status", "city",
    "country", "lat", "lon",
)  # fmt: skip


def parsed(records: DataFrame) -> DataFrame:
    """The record's fields beside its coordinates."""
    text = F.col("value").cast("string")
    return (
        records.withColumn("text", text)
        .withColumn("record", F.from_json("text", SCHEMA, JSON_OPTIONS))
        .select("*", "record.*")
        .withColumn("event_time", F.col("event_ts").try_cast("timestamp"))
    )


def delay() -> Column:
    """Microseconds from the event to Kafka's timestamp."""
    return F.unix_micros("kafka_ts") - F.unix_micros("event_time")


def is_text(name: str) -> Column:
    """Not what from_json makes of another type: 42, true and ["x"] are text to it."""
    column = F.col(name)
    return ~column.isin("42", "0.5", "true") & ~column.startswith("[") & ~column.startswith("{")


def is_valid() -> Column:
    """True or false, never null: a field that is missing or of another type is null and fails its condition."""
    text, cents = F.col("text"), F.col("amount") * 100
    rules = (
        F.is_valid_utf8("text") & text.endswith("}") & ~text.endswith("}}") & ~text.endswith("{}"),
        F.col("txn_id").startswith("txn_") & F.col("card_id").startswith("card_"),
        is_text("user_id") & is_text("merchant") & is_text("category") & is_text("city"),
        F.length("merchant").between(1, 256),
        F.col("amount").between(0, 1_000_000) & (F.abs(cents - F.rint(cents)) < 1e-6),
        F.col("currency").isin(*CURRENCIES),
        F.col("status").isin("approved", "declined", "pending"),
        F.col("country").between("AA", "ZZ") & (F.length("country") == 2),
        F.col("lat").between(-90, 90) & F.col("lon").between(-180, 180),
        F.length("event_ts") == len("2026-11-21T01:20:30.125Z"),  # a day or a time of day would be a timestamp, too
        delay().between(-MINUTE, 3 * MINUTE),
    )
    valid = rules[0]
    for rule in rules[1:]:
        valid = valid & rule
    return F.coalesce(valid, F.lit(False))


def bronze(records: DataFrame) -> DataFrame:
    return records


def quarantine(records: DataFrame) -> DataFrame:
    reason = F.when(F.col("txn_id").isNull(), "malformed").when(delay() > 3 * MINUTE, "late")
    reason = reason.when(delay() < -MINUTE, "future")
    return (
        parsed(records)
        .filter(~is_valid())
        .select("key", "value", reason.otherwise("rule").alias("reason"), *records.columns[2:])
    )


def silver(records: DataFrame) -> DataFrame:
    amount = F.col("amount").cast("decimal(18,2)")
    return parsed(records).filter(is_valid()).withColumn("amount", amount).select(*FIELDS, *records.columns[2:])


def gold(records: DataFrame) -> DataFrame:
    return (
        silver(records)
        .withWatermark("event_time", "5 minutes")
        .groupBy(F.window("event_time", "1 minute"), "card_id")
        .agg(
            F.count("*").alias("txn_count"),
            F.sum("amount").alias("sum_amount"),
            F.avg("amount").alias("avg_amount"),
            F.max("amount").alias("max_amount"),
        )
        .select(F.col("window.start").alias("window_start"), F.col("window.end").alias("window_end"), "*")
        .drop("window")
    )


def raw_csv(records: DataFrame) -> DataFrame:
    return silver(records).select(*FIELDS)


def one_file_a_batch(layer: str, folder: Path) -> Callable[[DataFrame, int], None]:
    """The layer's foreachBatch function."""

    def write(batch: DataFrame, batch_id: int) -> None:
        staging = folder / "_staging" / str(batch_id)
        writer = batch.coalesce(1).write.mode("overwrite")
        if layer == "raw_csv":
            writer.option("header", True).option("escape", '"').csv(str(staging))
        else:
            writer.parquet(str(staging))
        (part,) = staging.glob("part-*")
        part.rename(folder / f"{layer}_{batch_id:010d}{part.suffix}")
        shutil.rmtree(staging)

    return write


def started(spark: SparkSession, servers: str, output: Path, batch: int) -> list[StreamingQuery]:
    queries = []
    for layer in (bronze, quarantine, silver, gold, raw_csv):
        records = (
            spark.readStream.format("kafka")
            .option("kafka.bootstrap.servers", servers)
            .option("subscribe", TOPIC)
            .option("startingOffsets", "earliest")
            .option("maxOffsetsPerTrigger", batch)
            .load()
            .selectExpr("CAST(key AS STRING) AS key", "value", "timestamp AS kafka_ts", "topic", "partition", "offset")
        )
        folder = output / TOPIC / layer.__name__
        queries.append(
            layer(records)
            .writeStream.queryName(layer.__name__)
            .option("checkpointLocation", str(output / TOPIC / "_chk" / layer.__name__))
            .foreachBatch(one_file_a_batch(layer.__name__, folder))
            .trigger(availableNow=True)
            .start()
        )
    return queries


def log(at: datetime, message: str) -> None:
    print(f"{at.isoformat(timespec='milliseconds').replace('+00:00', 'Z')} INFO {message}", file=sys.stderr, flush=True)


def main(servers: str, output: str, batch: str) -> None:
    spark = SparkSession.builder.appName("baseline").getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    log(datetime.now(UTC), "started")
    queries = started(spark, servers, Path(output), int(batch))
    for query in queries:
        query.awaitTermination()
    for query in queries:
        for progress in query.recentProgress:
            seconds = progress.batchDuration / 1000
            ended = datetime.fromisoformat(progress.timestamp) + timedelta(seconds=seconds)
            batch_id, rows = progress.batchId, progress.numInputRows
            log(ended, f"{TOPIC}.{query.name} batch={batch_id} rows_in={rows} seconds={seconds:.3f}")
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
