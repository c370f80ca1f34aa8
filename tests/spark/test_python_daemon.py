"""Spark's Python workers begin with their imports done, and never look through those for garbage."""

import gc
import sys
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import SparkSession


def test_a_worker_is_forked_from_our_daemon_with_frozen_imports(spark: SparkSession) -> None:
    def look(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            imported = "stream_app.sinks.kept" in sys.modules
            yield pa.RecordBatch.from_pydict({"imported": [imported], "frozen": [gc.get_freeze_count()]})

    found = spark.range(4, numPartitions=2).mapInArrow(look, "imported boolean, frozen long").collect()
    assert len(found) == 2
    assert all(row.imported and row.frozen > 10_000 for row in found)
