"""Spark's Python workers begin with their imports done, none from a zip, and do not look through them for garbage."""

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyspark
from pyspark.sql import SparkSession
from pyspark.sql.datasource import DataSource

from stream_app.settings import PYTHON_START


def test_a_worker_is_forked_from_our_daemon_with_frozen_imports(spark: SparkSession) -> None:
    def look(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            imported = "stream_app.sinks.dedupe.staging" in sys.modules
            row = {"imported": [imported], "frozen": [gc.get_freeze_count()], "pyspark": [pyspark.__file__]}
            yield pa.RecordBatch.from_pydict(row)

    found = spark.range(4, numPartitions=2).mapInArrow(look, "imported boolean, frozen long, pyspark string").collect()
    assert len(found) == 2
    assert all(row.imported and row.frozen > 10_000 for row in found)
    assert {row.pyspark for row in found} == {pyspark.__file__}


def test_a_planner_is_forked_with_what_it_needs_of_ours(spark: SparkSession) -> None:
    class Look(DataSource):
        @classmethod
        def name(cls) -> str:
            return "look"

        def schema(self) -> str:
            return "imported int" if "stream_app.sources.layer_reader" in sys.modules else "lacking int"

    spark.dataSource.register(Look)
    assert spark.read.format("look").load().columns == ["imported"]


def test_the_zip_of_a_spark_that_is_not_installed_here_stays(tmp_path: Path) -> None:
    own = Path(pyspark.__path__[0], "python", "lib", "pyspark.zip")
    other = Path(shutil.copy(own, tmp_path))
    print_origin = [sys.executable, "-c", "import pyspark; print(pyspark.__file__)"]
    for zipped, expected in ((own, Path(pyspark.__path__[0])), (other, other / "pyspark")):
        path = f"{zipped}{os.pathsep}{PYTHON_START}"
        done = subprocess.run(
            print_origin, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
        )
        assert Path(done.stdout.strip()).parent == expected
