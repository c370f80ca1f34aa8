"""A micro-batch becomes one file: named by the batch, moved by one rename, whatever fails on the way."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from stream_app.feeds.feed import Feed
from stream_app.feeds.sql import text
from stream_app.flows.batch import Batch, planned
from stream_app.flows.flow import Flow
from stream_app.layers.registry import datasets
from stream_app.sinks.batch import BatchSink
from stream_app.sinks.csv import LINE_SEPARATOR, header
from stream_app.sinks.parts import Parts, write_parts
from stream_app.sinks.report import Report
from stream_app.storage import parquet
from stream_app.storage.batch_files import data_paths
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.form import Form
from stream_app.storage.lines import LINE
from stream_app.storage.planned import UNBOUNDED, Planned, pinned
from tests.helpers import flow_of, plan

NAMES = {
    "silver": "silver_20261121_010004_0000000004.parquet",
    "raw_csv": "raw_csv_20261121_010004_0000000004.csv",
}


class Sink:
    """The sink of a flow whose batches are planned like Spark does."""

    def __init__(self, spark: SparkSession, flow: Flow) -> None:
        self.flow, self.hadoop = flow, Hadoop(spark)
        self.before_publish: Callable[[], None] = lambda: None

    def write(self, frame: DataFrame, batch: int = 4) -> Report:
        for number in (batch - 1, batch):  # a batch begins where the one before ended
            plan(self.flow, number, {"batch": number})

        def parts(frame: DataFrame, _batch: Batch, folder: Path) -> Parts:
            return Parts(write_parts(self.flow, self.form, None, frame, folder))

        return BatchSink(self.flow, self.form, self.hadoop, parts, self.before_publish).write(
            planned(self.flow, batch), frame
        )

    @property
    def form(self) -> Form:
        assert self.flow.form
        return self.flow.form

    @property
    def visible(self) -> list[str]:
        return [path.name for path in data_paths(self.flow.layout.output)]


@pytest.fixture
def silver(spark: SparkSession, feed: Feed, tmp_path: Path) -> Sink:
    return Sink(spark, flow_of(feed, "silver", tmp_path))


@pytest.fixture
def mirror(spark: SparkSession, feed: Feed, tmp_path: Path) -> Sink:
    return Sink(spark, flow_of(feed, "raw_csv", tmp_path))


def numbers(spark: SparkSession, count: int, tasks: int, start: int = 0) -> DataFrame:
    return spark.range(start, start + count, numPartitions=tasks).select(
        "id", F.concat(F.lit("row "), "id").alias("text")
    )


def lines(spark: SparkSession, count: int, tasks: int) -> DataFrame:
    return spark.range(0, count, numPartitions=tasks).select(F.concat("id", F.lit(LINE_SEPARATOR)).alias(LINE))


@pytest.mark.parametrize("tasks", [1, 4])
def test_a_batch_is_one_file_whatever_its_tasks(spark: SparkSession, silver: Sink, tasks: int) -> None:
    written = silver.write(numbers(spark, 1000, tasks))
    assert silver.visible == [NAMES["silver"]]
    assert written.file == silver.flow.layout.output / NAMES["silver"]
    assert written == Report(4, 0, 1000, (written.file,), written.file.stat().st_size)
    assert pq.read_table(written.file)["id"].to_pylist() == list(range(1000))  # in the order of the tasks
    assert written.bytes > 0


@pytest.mark.parametrize("tasks", [1, 4])
def test_a_csv_batch_is_one_file_with_one_header(spark: SparkSession, feed: Feed, mirror: Sink, tasks: int) -> None:
    written = mirror.write(lines(spark, 50, tasks))
    assert mirror.visible == [NAMES["raw_csv"]]
    assert written.file is not None
    expected = header(datasets(feed)["silver"]) + b"".join(b"%d\r\n" % n for n in range(50))
    assert written.file.read_bytes() == expected


def test_an_empty_batch_writes_nothing(spark: SparkSession, silver: Sink, mirror: Sink) -> None:
    assert silver.write(numbers(spark, 0, 2)) == Report(4, 0, 0)
    assert mirror.write(lines(spark, 0, 2)) == Report(4, 0, 0)
    assert silver.visible == mirror.visible == []


def test_a_batch_whose_tasks_are_mostly_empty(spark: SparkSession, silver: Sink) -> None:
    written = silver.write(numbers(spark, 100, 4).where("id = 70"))
    assert pq.read_table(written.file)["id"].to_pylist() == [70]


def test_a_standing_file_is_left_alone(spark: SparkSession, silver: Sink) -> None:
    first = silver.write(numbers(spark, 10, 2))
    assert first.file is not None
    before = (first.file.read_bytes(), first.file.stat().st_mtime_ns)
    assert silver.write(numbers(spark, 99, 2)) == first
    assert (first.file.read_bytes(), first.file.stat().st_mtime_ns) == before


def test_a_standing_batch_of_a_query_with_state_runs_all_the_same(
    spark: SparkSession, feed: Feed, silver: Sink
) -> None:
    """Such a query commits its state as its rows are taken; a batch that takes none fails (STREAM_FAILED)."""
    taken = spark.sparkContext.accumulator(0)

    def count(row: Row) -> Row:
        taken.add(1)
        return row

    for sink, expected in ((Sink(spark, flow_of(feed, "gold", silver.flow.root)), 10), (silver, 0)):
        sink.write(numbers(spark, 10, 2))
        taken.value = 0
        sink.write(spark.createDataFrame(spark.range(10).rdd.map(count), "id long"))
        assert taken.value == expected


def test_a_batch_that_was_compacted_is_not_written_again(spark: SparkSession, silver: Sink) -> None:
    first = silver.write(numbers(spark, 10, 2))
    assert first.file is not None
    merged = first.file.with_name("silver_20261121_010000_0000000000-0000000009.parquet")
    silver.hadoop.publish(first.file, merged)
    silver.write(numbers(spark, 10, 2))
    assert silver.visible == [merged.name]


@pytest.mark.parametrize("tasks", [1, 3])
def test_a_failure_before_the_rename_leaves_nothing_and_the_next_run_completes(
    spark: SparkSession, silver: Sink, tasks: int
) -> None:
    def fail() -> None:
        assert [path.name for path in silver.flow.layout.output.iterdir()] == ["_staging"]
        raise OSError("disk full")

    silver.before_publish = fail
    with pytest.raises(OSError, match="disk full"):
        silver.write(numbers(spark, 100, 3))
    assert silver.visible == []
    silver.before_publish = lambda: None
    written = silver.write(numbers(spark, 10, tasks))  # fewer rows, so nothing staged before may remain
    assert written.rows_out == 10
    assert pq.read_table(written.file)["id"].to_pylist() == list(range(10))
    assert not list(silver.flow.layout.staging.iterdir())


def test_a_task_of_a_driver_that_was_killed_cannot_write_among_ours(
    spark: SparkSession, silver: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster its worker lives on, and its files are numbered as ours, as each driver counts tasks from 0."""
    folders: list[Path] = []

    def parts(frame: DataFrame, _batch: Batch, folder: Path) -> Parts:
        folders.append(folder)
        written = Parts(write_parts(silver.flow, silver.form, None, frame, folder))
        if len(folders) == 1:
            raise KeyboardInterrupt  # the driver is killed
        for part in written.parts:
            with pytest.raises(FileNotFoundError):
                (folders[0] / part.path.name).write_text("of the task that lives on")
        return written

    for batch in (3, 4):
        plan(silver.flow, batch, {"batch": batch})
    with pytest.raises(KeyboardInterrupt):
        BatchSink(silver.flow, silver.form, silver.hadoop, parts, lambda: None).write(
            planned(silver.flow, 4), numbers(spark, 10, 2)
        )
    silver.hadoop.delete(silver.flow.layout.staging)  # as a start does
    monkeypatch.setattr("stream_app.sinks.batch._DRIVER", "the next")
    written = BatchSink(silver.flow, silver.form, silver.hadoop, parts, lambda: None).write(
        planned(silver.flow, 4), numbers(spark, 10, 2)
    )
    assert pq.read_table(written.file)["id"].to_pylist() == list(range(10))


def test_a_failure_in_a_task_leaves_nothing(spark: SparkSession, silver: Sink) -> None:
    broken = numbers(spark, 10, 2).select(F.assert_true(F.col("id") < 7), "id")
    with pytest.raises(Exception, match="is not true"):
        silver.write(broken)
    assert silver.visible == []


def test_a_file_under_the_final_name_is_never_replaced(silver: Sink) -> None:
    staged, final = silver.flow.layout.staging / "new", silver.flow.layout.output / NAMES["silver"]
    staged.parent.mkdir(parents=True)
    for path in (staged, final):
        path.write_text(path.name)
    with pytest.raises(FileExistsError):
        silver.hadoop.publish(staged, final)
    assert final.read_text() == final.name


def test_a_rename_that_fails_is_an_error(silver: Sink) -> None:
    (silver.flow.layout.output / "_staging").mkdir(parents=True)
    with pytest.raises(OSError, match="missing"):
        silver.hadoop.publish(silver.flow.layout.staging / "missing", silver.flow.layout.output / NAMES["silver"])


@pytest.mark.parametrize("tasks", [1, 3])
def test_every_reader_reads_the_plain_folder(spark: SparkSession, silver: Sink, tasks: int) -> None:
    """Spark checks the .crc of each file; none of them opens what starts with an underscore."""
    for batch in (4, 5):
        silver.write(numbers(spark, 100, tasks, start=batch * 100), batch)
    folder = str(silver.flow.layout.output)
    (silver.flow.layout.output / "_owner.json").write_text("{}")
    (silver.flow.layout.staging / "part-0.parquet").write_text("half a file")
    expected = list(range(400, 600))
    assert sorted(row.id for row in spark.read.parquet(folder).collect()) == expected
    assert sorted(pd.read_parquet(folder)["id"]) == expected
    assert [n for (n,) in duckdb.sql(f"SELECT id FROM {text(f'{folder}/*.parquet')} ORDER BY 1").fetchall()] == expected


def test_every_reader_reads_the_plain_folder_of_the_mirror(spark: SparkSession, feed: Feed, mirror: Sink) -> None:
    cells = ",".join(["x"] * len(feed.fields)) + LINE_SEPARATOR
    for batch in (4, 5):
        mirror.write(spark.range(10).select(F.lit(cells).alias(LINE)), batch)
    folder = str(mirror.flow.layout.output)
    assert spark.read.option("header", True).csv(folder).count() == 20
    assert len(pd.concat(pd.read_csv(path) for path in mirror.flow.layout.output.glob("*.csv"))) == 20
    assert duckdb.sql(f"SELECT count(*) FROM {text(f'{folder}/*.csv')}").fetchone() == (20,)


def test_no_checksum_is_stale_or_left_behind(spark: SparkSession, silver: Sink) -> None:
    written = silver.write(numbers(spark, 100, 2))
    assert written.file is not None
    checksums = {path.name for path in silver.flow.layout.output.glob(".*.crc")}
    assert checksums <= {f".{written.file.name}.crc"}


def test_row_groups_are_copied_in_order_and_keep_spark_s_schema(spark: SparkSession, silver: Sink) -> None:
    frames = [numbers(spark, 10, 1, start=start) for start in (0, 10, 20)]
    parts = []
    for index, frame in enumerate(frames):
        frame.write.parquet(str(silver.flow.layout.staging / str(index)))
        parts += list((silver.flow.layout.staging / str(index)).glob("part-*"))
    target = silver.flow.layout.staging / "whole.parquet"
    silver.hadoop.concat_parquet(parts, target, {})
    metadata = pq.read_metadata(target)
    assert (metadata.num_row_groups, metadata.num_rows) == (3, 30)
    assert pq.read_table(target)["id"].to_pylist() == list(range(30))
    read = spark.read.parquet(str(target)).schema
    assert [(field.name, field.dataType) for field in read] == [(f.name, f.dataType) for f in frames[0].schema]


@pytest.mark.parametrize(("rows", "groups"), [(20_000, 3), (19_999, 1)])
def test_large_row_groups_are_copied_and_small_ones_written_anew(silver: Sink, rows: int, groups: int) -> None:
    """Three files are merged without decoding where that pays, else into larger row groups; the first's link stays."""
    parts = [silver.flow.layout.staging / f"{index}.parquet" for index in range(3)]
    silver.flow.layout.staging.mkdir(parents=True)
    for index, part in enumerate(parts):
        table = pa.table({"id": range(index * rows, (index + 1) * rows)})
        pq.write_table(table.replace_schema_metadata({"follows_batch": str(index - 1)}), part)
    merged = silver.flow.layout.staging / "merged.parquet"
    parquet.merge(silver.hadoop, parts, merged)
    assert pq.read_metadata(merged).num_row_groups == groups
    assert pq.read_metadata(merged).metadata[b"follows_batch"] == b"-1"
    assert pq.read_table(merged)["id"].to_pylist() == list(range(3 * rows))


@pytest.mark.parametrize("rows", [20_000, 5])
def test_a_merge_carries_the_planned_times_of_bronze(silver: Sink, rows: int) -> None:
    """Of those batches that need them: where row groups are copied, where they are written anew, and merged again."""
    silver.flow.layout.staging.mkdir(parents=True)
    parts = [silver.flow.layout.staging / f"{index}.parquet" for index in range(3)]
    for index, part in enumerate(parts):
        newest = index * 1_000_000
        times = pa.array([0] * (rows - 1) + [newest]).view(pa.timestamp("us", "UTC"))
        table = pa.table({"kafka_ts": times}).replace_schema_metadata({b"query_id": b"q", **pinned(1000)})
        pq.write_table(table, part)
    first, whole = silver.flow.layout.staging / "first.parquet", silver.flow.layout.staging / "whole.parquet"
    parquet.merge(silver.hadoop, parts[1:], first)
    parquet.merge(silver.hadoop, [parts[0], first], whole)
    metadata = pq.read_metadata(whole)
    assert (metadata.metadata or {})[b"query_id"] == b"q"
    bounds = Planned.of(metadata).of_rows(0, 3 * rows).to_pylist()
    assert bounds == [UNBOUNDED] * 2 * rows + [1_000_000] * rows
    parquet.merge(silver.hadoop, parts[:2], first)
    assert b"planned" not in (pq.read_metadata(first).metadata or {})


def test_parts_of_another_schema_are_refused(spark: SparkSession, silver: Sink) -> None:
    numbers(spark, 1, 1).write.parquet(str(silver.flow.layout.staging / "0"))
    numbers(spark, 1, 1).select("text").write.parquet(str(silver.flow.layout.staging / "1"))
    parts = sorted(silver.flow.layout.staging.glob("*/part-*"))
    with pytest.raises(Exception, match="Missing column"):
        silver.hadoop.concat_parquet(parts, silver.flow.layout.staging / "whole.parquet", {})
