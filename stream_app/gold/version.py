"""A run's version of gold while it is made: the days that it writes, and of the version before all others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from stream_app.gold.files import link_files, prefix_of, tables_in
from stream_app.storage.batch_files import partitions


@dataclass
class Version:
    """The tables in a folder: `<table>/<column>=<day>/*.parquet`."""

    spark: SparkSession
    run: int
    staging: Path
    _before: Path
    """The tables before it; a folder that is not there, where there are none."""
    changed: dict[str, list[date]] = field(default_factory=dict)
    """By table, the days that this run makes again."""
    columns: dict[str, str] = field(default_factory=dict)
    """By table that it makes, its columns as JSON."""

    def __post_init__(self) -> None:
        """Begin with an empty folder."""
        self.folder.mkdir(parents=True)

    @property
    def folder(self) -> Path:
        """Where it is made."""
        return self.staging / "version"

    def had(self, table: str) -> bool:
        """Return whether the version before has that table."""
        return (self._before / table).is_dir()

    def days_before(self, table: str) -> list[date]:
        """Return the days that the version before has of a table."""
        return _days_of(self._before / table)

    def days(self, table: str) -> list[date]:
        """Return the days of a table that is made."""
        return _days_of(self.folder / table)

    def before(self, table: str, by: str, days: Collection[date], columns: StructType) -> DataFrame:
        """Return the rows that the version before has of a table's days."""
        return self._read(self._before, table, by, days, columns)

    def made(self, table: str, by: str, days: Collection[date], columns: StructType) -> DataFrame:
        """Return the rows of the days of a table that is made."""
        return self._read(self.folder, table, by, days, columns)

    def parts(self, folder: Path | None, columns: StructType) -> DataFrame:
        """Return the rows of the files in a folder; none without a folder."""
        return self._files(folder, columns) if folder else self.spark.createDataFrame([], columns)

    def write(self, rows: DataFrame, table: str, by: str, days: Collection[date]) -> None:
        """Write the days of a table, and carry its other days over from the version before."""
        staged = self.staging / "written" / table
        if days:
            rows.write.partitionBy(by).parquet(str(staged))
        for folder in partitions(staged):
            target = self.folder / table / folder.name
            target.mkdir(parents=True)
            for number, path in enumerate(sorted(folder.glob("*.parquet"))):
                path.rename(target / f"{prefix_of(table, self.run)}{number:05d}.parquet")
        self.changed[table] = sorted(days)
        self.columns[table] = rows.schema.json()
        self._carry_over(table)

    def keep_all_but(self, tables: Iterable[str]) -> None:
        """Carry all tables over that are not made, but for those."""
        others = {*tables}
        for name in tables_in(self._before):
            if name not in self.changed and name not in others:
                self._carry_over(name)

    def _carry_over(self, table: str) -> None:
        (self.folder / table).mkdir(parents=True, exist_ok=True)
        changed = {day.isoformat() for day in self.changed.get(table, [])}
        for folder in partitions(self._before / table):
            if folder.name.partition("=")[2] not in changed:
                link_files(folder, self.folder / table / folder.name)

    def _read(self, version: Path, table: str, by: str, days: Collection[date], columns: StructType) -> DataFrame:
        table_of = version / table
        if not {*days} & {*_days_of(table_of)}:
            return self.spark.createDataFrame([], columns)
        return self._files(table_of, columns).where(F.col(by).isin(sorted(days)))

    def _files(self, folder: Path, columns: StructType) -> DataFrame:
        # By Spark's own option (DataSource.scala) a folder's name is no pattern, whatever it is. Of several paths it
        # would then read each as often as there are paths (measured on 4.2.0).
        return self.spark.read.schema(columns).option("__globPaths__", "false").parquet(str(folder))


def _days_of(table: Path) -> list[date]:
    return [date.fromisoformat(path.name.partition("=")[2]) for path in partitions(table)]
