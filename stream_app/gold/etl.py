"""One batch job: what has landed becomes gold, all of it at once for readers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import reduce
from pathlib import Path

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from stream_app import logs
from stream_app.admission.rule_versions import version_of
from stream_app.errors import ConfigError, no_room_is_expected
from stream_app.failpoints import reach
from stream_app.feeds.feed import Feed
from stream_app.gold.judge import EVENT_DATE, LANDED_DATE, QUARANTINE_COLUMNS, Judged, judge, silver_columns
from stream_app.gold.plan import FeedPlan, Plan, Selection, plan, shape_of
from stream_app.gold.store import FLOW, Gold, Manifest, Taken, link_files
from stream_app.gold.tables import QUARANTINE, Table
from stream_app.landing.ranges import Ranges
from stream_app.settings import Settings, SparkOptions
from stream_app.storage.batch_files import partitions
from stream_app.storage.lock import LOCK_PATIENCE_SECONDS, sole_user

SETTING = "GOLD_PATH"


@dataclass(frozen=True)
class Job:
    """What is to be made."""

    feeds: Sequence[Feed]
    """What is taken."""
    known: Mapping[str, Feed]
    """All feeds, of which tables by SQL may be."""
    tables: Sequence[Table]
    selection: Selection
    name: str
    """What Spark's page and the manifest call it."""


@contextmanager
def planned(settings: Settings, job: Job) -> Iterator[Plan]:
    """Yield what the job is to take, alone on the folder of gold. What a run that died has left is put in order first.

    Raises ConfigError where another run is at it.
    """
    gold = Gold(settings.gold_path)
    with no_room_is_expected(gold.root, SETTING), sole_user(gold.root, LOCK_PATIENCE_SECONDS, SETTING):
        yield plan(settings, job.feeds, gold.recover(), job.selection)


def run(settings: Settings, job: Job, connect: Callable[[], SparkSession]) -> Manifest | None:
    """Take what is there; return the manifest of the run, or None where there was nothing to do.

    Readers see all tables change at once, when all is made. Raises StreamAppError for a damaged landed file, and
    ConfigError for SQL that Spark does not take.
    """
    with planned(settings, job) as found:
        if found.is_empty:
            return None
        making = _Making(connect(), Gold(settings.gold_path), found, settings.landing_path)
        return making.make(job)


@dataclass
class _Making:
    """A run's version of gold, while it is made."""

    spark: SparkSession
    gold: Gold
    plan: Plan
    landing: Path
    changed: dict[str, list[date]] = field(default_factory=dict)
    """By table, the days that this run makes anew."""

    @property
    def version(self) -> Path:
        return self.gold.staging / "version"

    @property
    def before(self) -> Path:
        """The version before; a folder that is not there, where there is none."""
        return self.gold.version(self.plan.run - 1)

    def make(self, job: Job) -> Manifest:
        began = datetime.now(UTC)
        self.version.mkdir(parents=True)
        taken = {one.feed.name: self._feed(one) for one in self.plan.feeds}
        by_sql = {table.name for table in job.tables}
        for name in self._of_tables(self.before):
            if name not in self.changed and name not in by_sql:
                self._carry_over(name)
        for table in job.tables:
            self._table(table, job.known)
        days = {table: [day.isoformat() for day in days] for table, days in self.changed.items()}
        kept = self.plan.before.shapes if self.plan.before else {}
        shapes = {**kept, **{one.feed.name: shape_of(one.feed) for one in self.plan.feeds}}
        ended = datetime.now(UTC)
        times = began.isoformat(timespec="seconds"), ended.isoformat(timespec="seconds")
        manifest = Manifest(self.plan.run, job.name, *times, taken, days, self.plan.taken(), shapes)
        reach(FLOW, "written")
        self.gold.commit(manifest, self.version)
        return manifest

    def _feed(self, one: FeedPlan) -> Taken:
        """Judge what has landed of a feed, and write the days of its rows and of its quarantine."""
        feed, staged = one.feed, self.gold.staging / f"judged-{one.feed.name}"
        logs.info("judges", feed=feed.name, files=len(one.files))
        judged = judge(self.spark, feed, one.files, staged) if one.files else Judged()
        reach(FLOW, "judged")
        self._rows(one, judged)
        table = f"{QUARANTINE}/{feed.name}"
        days = {file.hour.date() for file in one.files} | ({*self._days(table)} if one.starts_anew else set())
        refused = self._merged(one, table, LANDED_DATE, days, judged.quarantine, QUARANTINE_COLUMNS)
        refused = refused.repartition(F.col(LANDED_DATE)).sortWithinPartitions(LANDED_DATE, "partition", "offset")
        self._write(refused, table, LANDED_DATE, days)
        counts = {str(path.relative_to(self.landing)): own for path, own in judged.counts.items()}
        return Taken(feed.topic, version_of(feed), shape_of(feed), counts)

    def _rows(self, one: FeedPlan, judged: Judged) -> None:
        """Write the days of a feed's table that the new rows touch, each key once a day.

        Of several records of a key the first by Kafka's timestamp stays, then by partition and offset. So the table
        does not depend on how the records were divided into runs.
        """
        feed, columns = one.feed, silver_columns(one.feed)
        days = {date.fromisoformat(day) for day in judged.days}
        if one.starts_anew:
            days |= {*self._days(feed.name)}
        elif one.again:
            held = self._read(self.before, feed.name, EVENT_DATE, self._days(feed.name), columns)
            days |= {row[EVENT_DATE] for row in held.where(_in(one.again)).select(EVENT_DATE).distinct().collect()}
            if feed.dedupe:
                self._refuse_losses(one, feed.dedupe.keys, judged, days)
        rows = self._merged(one, feed.name, EVENT_DATE, days, judged.rows, columns)
        if feed.dedupe:
            key = Window.partitionBy(EVENT_DATE, *feed.dedupe.keys).orderBy("kafka_ts", "partition", "offset")
            rows = rows.withColumn("_number", F.row_number().over(key)).where("_number = 1").drop("_number")
        self._write(rows, feed.name, EVENT_DATE, days)

    def _refuse_losses(self, one: FeedPlan, keys: Sequence[str], judged: Judged, days: Collection[date]) -> None:
        """Raise ConfigError where a row would go whose repeats are in files that are not judged again."""
        columns = silver_columns(one.feed)
        held = self._read(self.before, one.feed.name, EVENT_DATE, days, columns).where(_in(one.again))
        lost = held.join(self._parts(judged.rows, columns), [EVENT_DATE, *keys], "left_anti").count()
        if lost:
            problem = f"{lost:,} rows of {one.feed.name} are no longer valid, or of another day, by the feed's rules"
            raise ConfigError(f"--since, --until: {problem}; their repeats may be in other files; use --full")

    def _merged(
        self, one: FeedPlan, table: str, by: str, days: Collection[date], parts: Path | None, columns: StructType
    ) -> DataFrame:
        """Return the rows of those days: what the table has of them, but for what is taken again, and the new ones."""
        new = self._parts(parts, columns)
        if one.starts_anew:
            return new
        old = self._read(self.before, table, by, days, columns)
        return (old.where(~_in(one.again)) if one.again else old).unionByName(new)

    def _table(self, table: Table, feeds: Mapping[str, Feed]) -> None:
        """Make the days of a table by SQL anew that the changed days of its feeds bear on."""
        changed = {day for feed in table.feeds for day in self.changed.get(feed, [])}
        held = {day for feed in table.feeds for day in _days_of(self.version / feed)}
        first = not (self.before / table.name).is_dir()
        affected = table.affected(held if first else changed, held)
        logs.info("makes", table=table.name, days=len(affected))
        for feed in table.feeds:
            rows = self._read(self.version, feed, EVENT_DATE, table.read(affected), silver_columns(feeds[feed]))
            rows.createOrReplaceTempView(feed)
        try:
            made = self.spark.sql(table.sql).where(F.col(EVENT_DATE).isin(affected))
        except AnalysisException as error:
            raise ConfigError(f"{table.name}.sql: {' '.join(str(error).split())}") from None
        self._write(made, table.name, EVENT_DATE, affected)

    def _write(self, rows: DataFrame, table: str, by: str, days: Collection[date]) -> None:
        """Write the days of a table, and carry its other days over from the version before."""
        staged = self.gold.staging / "written" / table
        if days:
            rows.write.partitionBy(by).parquet(str(staged))
        for folder in partitions(staged):
            target = self.version / table / folder.name
            target.mkdir(parents=True)
            for number, path in enumerate(sorted(folder.glob("*.parquet"))):
                path.rename(target / f"{Path(table).name}_{self.plan.run:010d}_{number:05d}.parquet")
        self.changed[table] = sorted(days)
        self._carry_over(table)

    def _carry_over(self, table: str) -> None:
        (self.version / table).mkdir(parents=True, exist_ok=True)
        changed = {day.isoformat() for day in self.changed.get(table, [])}
        for folder in partitions(self.before / table):
            if folder.name.partition("=")[2] not in changed:
                link_files(folder, self.version / table / folder.name)

    def _parts(self, folder: Path | None, columns: StructType) -> DataFrame:
        return self._files(folder, columns) if folder else self.spark.createDataFrame([], columns)

    def _read(self, version: Path, table: str, by: str, days: Collection[date], columns: StructType) -> DataFrame:
        """Return the rows of a table's days in a version."""
        table_of = version / table
        if not {*days} & {*_days_of(table_of)}:
            return self.spark.createDataFrame([], columns)
        return self._files(table_of, columns).where(F.col(by).isin(sorted(days)))

    def _files(self, folder: Path, columns: StructType) -> DataFrame:
        # By Spark's own option (DataSource.scala) a folder's name is no pattern, whatever it is. Of several paths it
        # would then read each as often as there are paths (measured on 4.2.0).
        return self.spark.read.schema(columns).option("__globPaths__", "false").parquet(str(folder))

    def _days(self, table: str) -> list[date]:
        return _days_of(self.before / table)

    def _of_tables(self, version: Path) -> list[str]:
        """Return the names of all tables of a version, quarantine's by feed."""
        own = [path.name for path in version.glob("*") if path.name != QUARANTINE]
        return own + [f"{QUARANTINE}/{path.name}" for path in version.glob(f"{QUARANTINE}/*")]


def session(spark: SparkOptions, name: str) -> SparkSession:
    """Return Spark's session for a job."""
    options: dict[str, bool | float | int | str | None] = {
        **spark.security,
        "spark.app.name": name,
        "spark.sql.adaptive.enabled": "true",  # conf/spark-defaults.conf is for streams
        "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
    }
    return SparkSession.builder.config(map=options).getOrCreate()


def _days_of(table: Path) -> list[date]:
    return [date.fromisoformat(path.name.partition("=")[2]) for path in partitions(table)]


def _in(ranges: Ranges) -> Column:
    """Return whether a row is of a record with those offsets."""
    of = [
        (F.col("partition") == partition) & F.col("offset").between(first, last)
        for partition, own in ranges.items()
        for first, last in own
    ]
    return reduce(lambda one, other: one | other, of)
