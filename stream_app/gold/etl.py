"""One batch job: what has landed becomes gold, all of it at once for readers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import reduce
from pathlib import Path

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from stream_app import logs
from stream_app.errors import ConfigError, no_room_is_expected
from stream_app.failpoints import reach
from stream_app.feeds.feed import Feed
from stream_app.flows.rules import version_of
from stream_app.gold import reference
from stream_app.gold.judge import (
    EVENT_DATE,
    LANDED_DATE,
    QUARANTINE_COLUMNS,
    Judged,
    Reference,
    judge,
    silver_columns,
)
from stream_app.gold.manifest import FLOW, Manifest, Taken
from stream_app.gold.plan import FeedPlan, Plan, Selection, plan, shape_of
from stream_app.gold.store import Gold
from stream_app.gold.tables import QUARANTINE, Table
from stream_app.gold.version import Version
from stream_app.landing.ranges import Ranges
from stream_app.settings import Settings, SparkOptions
from stream_app.storage.lock import sole_run

SETTING = "GOLD_PATH"


@dataclass(frozen=True)
class Job:
    """What is to be made."""

    feeds: Sequence[Feed]
    """What is taken."""
    known: Mapping[str, Feed]
    """All feeds by their names, which tables by SQL may read."""
    tables: Sequence[Table]
    selection: Selection
    name: str
    """What Spark's page and the manifest call it."""
    format: str = ""
    """How the tables are kept (FORMS of gold/store.py); without one as gold has them, in a new one `parquet`."""


@contextmanager
def planned(settings: Settings, job: Job) -> Iterator[Plan]:
    """Yield what the job is to take, alone on the folder of gold. What a run that died has left is put in order first.

    Raises ConfigError where it has tables of another format; StreamAppError where another run is at it.
    """
    gold = Gold(settings.gold_path, settings.retention_hours)
    with no_room_is_expected(gold.root, SETTING), sole_run(gold.root, SETTING):
        newest = gold.recover()
        if newest and job.format not in {"", newest.format}:
            raise ConfigError(f"--format: {gold.root} has tables of {newest.format}; give another --gold")
        yield plan(settings, job.feeds, newest, job.selection)


def run(settings: Settings, job: Job, connect: Callable[[], SparkSession]) -> Manifest | None:
    """Take what is there; return the manifest of the run, or None where there was nothing to do.

    Readers see all tables change at once, when all is made. Raises StreamAppError for a damaged landed file, and
    ConfigError for SQL that Spark does not take.
    """
    with planned(settings, job) as found:
        if found.is_empty:
            return None
        gold = Gold(settings.gold_path, settings.retention_hours)
        pins = {one.feed.name: _pin(settings, one.feed) for one in found.feeds}
        spark, before = connect(), _before(gold, found)
        version = Version(spark, found.run, gold.staging, before)
        return _Making(spark, gold, found, settings.landing_path, pins, version).make(job)


def _pin(settings: Settings, feed: Feed) -> str:
    return reference.take(settings.gold_path, feed, settings.feeds_path, settings.database_url)


def _before(gold: Gold, found: Plan) -> Path:
    """Return the folder of the tables before this run; one that is not there, where there are none."""
    return gold.form(found.before.format).before(found.before) if found.before else gold.staging / "none"


@dataclass
class _Making:
    """A run's version of gold, while it is made."""

    spark: SparkSession
    gold: Gold
    plan: Plan
    landing: Path
    pins: Mapping[str, str]
    """By feed: by which snapshots of reference data it judges."""
    version: Version

    def make(self, job: Job) -> Manifest:
        began = datetime.now(UTC)
        taken = {one.feed.name: self._feed(one) for one in self.plan.feeds}
        self.version.keep_all_but(table.name for table in job.tables)
        for table in job.tables:
            self._table(table, job.known)
        manifest = self._manifest(job, began, taken)
        reach(FLOW, "written")
        self.gold.commit(manifest, self.version.folder)
        reference.tidy(self.gold.root, (one.feed for one in self.plan.feeds), manifest)
        return manifest

    def _manifest(self, job: Job, began: datetime, taken: Mapping[str, Taken]) -> Manifest:
        before, ended = self.plan.before, datetime.now(UTC)
        shapes = {one.feed.name: shape_of(one.feed) for one in self.plan.feeds}
        return Manifest(
            self.plan.run,
            job.name,
            began.isoformat(timespec="seconds"),
            ended.isoformat(timespec="seconds"),
            feeds=taken,
            days={table: [day.isoformat() for day in days] for table, days in self.version.changed.items()},
            taken=self.plan.taken(),
            pins=self.plan.pins(self.pins),
            shapes={**(before.shapes if before else {}), **shapes},
            format=before.format if before else job.format or "parquet",
            gold=before.gold if before else secrets.token_hex(16),
            columns={**(before.columns if before else {}), **self.version.columns},
        )

    def _feed(self, one: FeedPlan) -> Taken:
        """Judge what has landed of a feed, and write the days of its rows and of its quarantine."""
        feed, staged = one.feed, self.gold.staging / f"judged-{one.feed.name}"
        logs.info("judges", feed=feed.name, files=len(one.files))
        by = Reference(self.pins[feed.name], reference.snapshots_of(self.gold.root, feed))
        judged = judge(self.spark, feed, one.files, staged, by) if one.files else Judged()
        reach(FLOW, "judged")
        self._rows(one, judged)
        table = f"{QUARANTINE}/{feed.name}"
        days = {file.hour.date() for file in one.files}
        if one.starts_anew:
            days |= {*self.version.days_before(table)}
        refused = self._merged(one, table, LANDED_DATE, days, judged.quarantine, QUARANTINE_COLUMNS)
        refused = refused.repartition(F.col(LANDED_DATE)).sortWithinPartitions(LANDED_DATE, "partition", "offset")
        self.version.write(refused, table, LANDED_DATE, days)
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
            days |= {*self.version.days_before(feed.name)}
        elif one.again:
            held = self.version.before(feed.name, EVENT_DATE, self.version.days_before(feed.name), columns)
            days |= {row[EVENT_DATE] for row in held.where(_in(one.again)).select(EVENT_DATE).distinct().collect()}
            if feed.dedupe:
                self._refuse_losses(one, feed.dedupe.keys, judged, days)
        rows = self._merged(one, feed.name, EVENT_DATE, days, judged.rows, columns)
        if feed.dedupe:
            key = Window.partitionBy(EVENT_DATE, *feed.dedupe.keys).orderBy("kafka_ts", "partition", "offset")
            rows = rows.withColumn("_number", F.row_number().over(key)).where("_number = 1").drop("_number")
        self.version.write(rows, feed.name, EVENT_DATE, days)

    def _refuse_losses(self, one: FeedPlan, keys: Sequence[str], judged: Judged, days: Collection[date]) -> None:
        """Raise ConfigError where a row would go whose repeats are in files that are not judged again."""
        columns = silver_columns(one.feed)
        held = self.version.before(one.feed.name, EVENT_DATE, days, columns).where(_in(one.again))
        lost = held.join(self.version.parts(judged.rows, columns), [EVENT_DATE, *keys], "left_anti").count()
        if lost:
            problem = f"{lost:,} rows of {one.feed.name} are no longer valid, or of another day, by the feed's rules"
            raise ConfigError(f"--since, --until: {problem}; their repeats may be in other files; use --full")

    def _merged(
        self, one: FeedPlan, table: str, by: str, days: Collection[date], parts: Path | None, columns: StructType
    ) -> DataFrame:
        """Return the rows of those days: what the table has of them, but for what is taken again, and the new ones."""
        new = self.version.parts(parts, columns)
        if one.starts_anew:
            return new
        old = self.version.before(table, by, days, columns)
        return (old.where(~_in(one.again)) if one.again else old).unionByName(new)

    def _table(self, table: Table, feeds: Mapping[str, Feed]) -> None:
        """Make those days of a table by SQL again that depend on changed days of its feeds."""
        changed = {day for feed in table.feeds for day in self.version.changed.get(feed, [])}
        held = {day for feed in table.feeds for day in self.version.days(feed)}
        affected = table.affected(changed if self.version.had(table.name) else held, held)
        logs.info("makes", table=table.name, days=len(affected))
        for feed in table.feeds:
            rows = self.version.made(feed, EVENT_DATE, table.read(affected), silver_columns(feeds[feed]))
            rows.createOrReplaceTempView(feed)
        try:
            made = self.spark.sql(table.sql).where(F.col(EVENT_DATE).isin(affected))
        except AnalysisException as error:
            raise ConfigError(f"{table.name}.sql: {' '.join(str(error).split())}") from None
        self._refuse_other_columns(table.name, made.schema, {*affected})
        self.version.write(made, table.name, EVENT_DATE, affected)

    def _refuse_other_columns(self, table: str, columns: StructType, days: Collection[date]) -> None:
        """Raise ConfigError where days that are kept have other columns than those that are made."""
        before = self.plan.before
        if before and table in before.columns and {*self.version.days_before(table)} - {*days}:
            former = StructType.fromJson(json.loads(before.columns[table]))
            if _shape(columns) != _shape(former):
                raise ConfigError(f"{self.gold.root / table}: its columns were changed; make the table anew by --full")


def session(spark: SparkOptions, name: str) -> SparkSession:
    """Return Spark's session for a job."""
    options: dict[str, bool | float | int | str | None] = {
        **spark.security,
        "spark.app.name": name,
        "spark.sql.adaptive.enabled": "true",  # conf/spark-defaults.conf is for streams
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",  # the only one that Delta tables take
        "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
    }
    return SparkSession.builder.config(map=options).getOrCreate()


def _shape(columns: StructType) -> list[tuple[str, str]]:
    """Return names and types: what is null is for a reader to see."""
    return [(column.name, column.dataType.simpleString()) for column in columns]


def _in(ranges: Ranges) -> Column:
    """Return whether a row is of a record with those offsets."""
    of = [
        (F.col("partition") == partition) & F.col("offset").between(first, last)
        for partition, own in ranges.items()
        for first, last in own
    ]
    return reduce(lambda one, other: one | other, of)
