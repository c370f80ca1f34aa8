"""The limit of the machine: one hand-tuned process, `python -m tests.bench.limit <brokers> <folder> <batch>`.

librdkafka reads and decompresses in threads of its own. Python only takes the messages and has msgspec decide which
are whole: one strict pass in C. All else is polars on both cores, a batch behind: it parses the lines that passed,
checks the other rules, and writes bronze, quarantine, silver (each txn_id once), gold and the CSV. No checkpoint, no
restart, no atomic rename, of event_ts no form but the producer's: nothing of what costs a service its speed.
"""

from __future__ import annotations

import sys
import time
import tomllib
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import polars as pl
import pyarrow as pa
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from stream_app.settings import PROJECT

TOPIC = "transactions"
CHUNK = 50_000
DECLARED = tomllib.loads((PROJECT / "conf" / "feeds" / f"{TOPIC}.toml").read_text())["fields"]
LATENESS, TOLERANCE = timedelta(minutes=3), timedelta(minutes=1)
REPEATS, WATERMARK, WINDOW = timedelta(hours=1), timedelta(minutes=5), timedelta(minutes=1)

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Record(msgspec.Struct, gc=False):
    """What msgspec decides: that all fields are there, of their JSON types, most of them in their ranges."""

    txn_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    event_ts: str
    user_id: Text
    card_id: Text
    merchant: Text
    category: Text
    amount: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
    currency: str
    status: Literal["approved", "declined", "pending"]
    city: Text
    country: str
    lat: Annotated[float, msgspec.Meta(ge=-90, le=90)]
    lon: Annotated[float, msgspec.Meta(ge=-180, le=180)]


WIRE = pl.Schema(
    {name: pl.Float64 if name in {"amount", "lat", "lon"} else pl.String for name in Record.__struct_fields__}
)


class Batch:
    """The messages of a batch as they are taken, column by column, and which of them are whole."""

    def __init__(self, number: int) -> None:
        self.number, self.began = number, time.time()
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.times: list[int] = []
        self.partitions: list[int | None] = []
        self.offsets: list[int | None] = []
        self.whole: list[int] = []
        self.lines: list[bytes] = []

    def take(self, consumer: Consumer, most: int) -> None:
        """Read until the batch holds `most` records, which the topic must have."""
        decode = msgspec.json.Decoder(Record).decode
        while len(self.values) < most:
            messages = consumer.consume(min(CHUNK, most - len(self.values)), timeout=10)
            assert messages
            assert not any(message.error() for message in messages)
            self.keys += [message.key() for message in messages]
            self.times += [message.timestamp()[1] for message in messages]
            self.partitions += [message.partition() for message in messages]
            self.offsets += [message.offset() for message in messages]
            values = [message.value() for message in messages]
            for at, value in enumerate(values, len(self.values)):
                if value is None:
                    continue
                try:
                    decode(value)
                except ValueError:
                    continue
                self.whole.append(at)
                self.lines.append(value.replace(b"\n", b" "))
            self.values += values

    def records(self) -> pl.DataFrame:
        """Every record, as bronze holds it."""
        times = pa.array(self.times, pa.timestamp("ms", "UTC")).cast(pa.timestamp("us", "UTC"))
        columns = {
            "key": pa.array(self.keys, pa.binary()).cast(pa.string()),
            "value": pa.array(self.values, pa.binary()),
            "kafka_ts": times,
            "topic": pa.repeat(TOPIC, len(self.values)),
            "partition": pa.array(self.partitions, pa.int32()),
            "offset": pa.array(self.offsets, pa.int64()),
        }
        return pl.DataFrame(pa.table(columns))


class Outputs:
    """The five folders, and what must be remembered from one batch to the next."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / TOPIC
        self._seen = pl.DataFrame(schema={"txn_id": pl.String, "kafka_ts": pl.Datetime("us", "UTC")})
        self._open: pl.DataFrame | None = None
        self._newest: dict[int, datetime] = {}

    def write(self, batch: Batch) -> None:
        """Write the files of a batch."""
        records = batch.records()
        self._parquet(records, "bronze", batch.number)
        rows = pl.read_ndjson(b"\n".join(batch.lines), schema=WIRE)
        rows = rows.hstack(records[batch.whole].select("kafka_ts", "topic", "partition", "offset"))
        rows = rows.with_columns(
            pl.col("event_ts").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", strict=False)
            .dt.replace_time_zone("UTC").alias("event_time")
        ).with_columns(_reason().alias("reason"))  # fmt: skip
        valid = rows.filter(pl.col("reason").is_null())
        reasons = pl.Series("reason", ["malformed"]).extend_constant("malformed", len(records) - 1)
        reasons = reasons.scatter(batch.whole, rows["reason"])
        self._parquet(records.with_columns(reasons).filter(pl.col("reason").is_not_null()), "quarantine", batch.number)
        silver = self._once(valid).select(
            *(pl.col(name).round(2).cast(pl.Decimal(18, 2)) if name == "amount" else name for name in DECLARED),
            "kafka_ts", "topic", "partition", "offset",
        )  # fmt: skip
        self._parquet(silver, "silver", batch.number)
        self._parquet(self._final(silver), "gold", batch.number)
        self._csv(silver.select(*DECLARED), batch.number)
        log(f"{TOPIC}.all batch={batch.number} rows_in={len(records)} seconds={time.time() - batch.began:.3f}")

    def _once(self, valid: pl.DataFrame) -> pl.DataFrame:
        """The rows whose txn_id was not seen in the last hour."""
        new = valid.unique("txn_id", keep="first", maintain_order=True).join(self._seen, on="txn_id", how="anti")
        seen = pl.concat([self._seen, new.select("txn_id", "kafka_ts")])
        self._seen = seen.filter(pl.col("kafka_ts") > pl.col("kafka_ts").max() - REPEATS)
        return new

    def _final(self, silver: pl.DataFrame) -> pl.DataFrame:
        """The windows that no partition can add to: the watermark is the slowest partition's."""
        newest = silver.group_by("partition").agg(pl.col("event_time").max())
        self._newest |= dict(newest.iter_rows())
        parts = silver.group_by(pl.col("event_time").dt.truncate(WINDOW).alias("window_start"), "card_id").agg(
            pl.len().cast(pl.Int64).alias("txn_count"),
            pl.col("amount").sum().alias("sum_amount"),
            pl.col("amount").max().alias("max_amount"),
        )
        if self._open is not None:
            both = pl.concat([self._open, parts], how="vertical_relaxed").group_by("window_start", "card_id")
            parts = both.agg(pl.col("txn_count", "sum_amount").sum(), pl.col("max_amount").max())
        window_end = pl.col("window_start") + WINDOW
        is_final = window_end <= min(self._newest.values()) - WATERMARK
        self._open = parts.filter(~is_final)
        average = pl.col("sum_amount").cast(pl.Float64) / pl.col("txn_count")
        return parts.filter(is_final).with_columns(window_end.alias("window_end"), average.alias("avg_amount"))

    def _parquet(self, frame: pl.DataFrame, layer: str, number: int) -> None:
        if len(frame):
            frame.write_parquet(self._path(layer, number, "parquet"), compression="zstd")

    def _csv(self, frame: pl.DataFrame, number: int) -> None:
        text = pl.col(pl.String)
        harmless = pl.when(text.str.contains(r"^[=+\-@\t\r\n]")).then("'" + text).otherwise(text)
        frame.with_columns(harmless.name.keep()).write_csv(
            self._path("raw_csv", number, "csv"), datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ", line_terminator="\r\n"
        )

    def _path(self, layer: str, number: int, extension: str) -> Path:
        path = self._folder / layer / f"{layer}_{number:010d}.{extension}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _reason() -> pl.Expr:
    """Why a whole record is no row; null if it is one. Null conditions count as false."""
    time, kafka_ts, cents = pl.col("event_time"), pl.col("kafka_ts"), pl.col("amount") * 100
    allowed = pl.col("currency").is_in(DECLARED["currency"]["allowed"]) & pl.col("country").str.contains("^[A-Z]{2}$")
    return (
        pl.when(time.is_null()).then(pl.lit("bad_time"))
        .when((cents - cents.round()).abs() > 1e-6).then(pl.lit("out_of_range"))
        .when(~allowed).then(pl.lit("not_allowed"))
        .when(time < kafka_ts - LATENESS).then(pl.lit("late"))
        .when(time > kafka_ts + TOLERANCE).then(pl.lit("future"))
    )  # fmt: skip


def log(message: str) -> None:
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    print(f"{at} INFO {message}", file=sys.stderr, flush=True)


def main(servers: str, output: str, batch: str) -> None:
    log("started")
    fetching = {"fetch.message.max.bytes": 8 << 20, "queued.max.messages.kbytes": 256 << 10}
    fetching |= {"queued.min.messages": 500_000, "check.crcs": False, "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "limit", **fetching})
    partitions = consumer.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions
    consumer.assign([TopicPartition(TOPIC, partition, OFFSET_BEGINNING) for partition in partitions])
    ends = [consumer.get_watermark_offsets(TopicPartition(TOPIC, partition), timeout=10) for partition in partitions]
    left, most, outputs = sum(high - low for low, high in ends), int(batch), Outputs(Path(output))
    with ThreadPoolExecutor(1) as writer:
        written: Future[None] | None = None
        for number in range(-(-left // most)):
            taken = Batch(number)
            taken.take(consumer, min(most, left))
            left -= most
            if written:
                written.result()
            written = writer.submit(outputs.write, taken)
        if written:
            written.result()
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
