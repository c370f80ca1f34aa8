"""Gold is reconciled with the landing zone, file by file: landed = gold + quarantine + repeats.

Every landed record that a run has taken is judged again by the contract's definition. It is exactly gold's row of its
place, or exactly quarantine's with every reason, or repeats a row of its day that gold kept. Gold keeps the first of a
key by Kafka's timestamp, partition and offset. Nothing else is in gold or quarantine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyspark.sql.types import StructType

from stream_app.errors import ConfigError
from stream_app.feeds import schema as schemas
from stream_app.feeds.feed import Feed
from stream_app.feeds.schema import types_of
from stream_app.feeds.sql import name
from stream_app.flows.rules import version_of
from stream_app.gold.judge import EVENT_DATE, LANDED_DATE, Reference
from stream_app.gold.manifest import Manifest
from stream_app.gold.plan import taken_of
from stream_app.gold.reference import snapshots_of
from stream_app.gold.store import Gold
from stream_app.gold.tables import QUARANTINE
from stream_app.landing.ranges import Ranges, of_files, overlap, without
from stream_app.landing.zone import LandedFile, Zone
from stream_app.ops.audit.landed import FILE, expected
from stream_app.ops.audit.report import Check, Report, Step, Verdict
from stream_app.ops.views import database
from stream_app.storage.pins import NOTHING
from stream_app.storage.row_counts import paths, read_parquet
from stream_app.storage.snapshots import PlainSnapshot

Progress = Callable[[str, int, int], None]
"""Is told the feed, how many offsets are judged, and how many there are."""
_PLACE = 'partition, "offset"'
# Of a row t: whether its record is judged again.
_JUDGED = 'EXISTS (FROM _ranges r WHERE r.partition = t.partition AND t."offset" BETWEEN r.first AND r.last)'


def audit_gold(landing: Path, root: Path, feeds: Sequence[Feed], progress: Progress) -> list[Report]:
    """Audit what gold has of those feeds, as the newest run has left it. What no run has taken is pending.

    Raises ConfigError where no run has ended, unless topics have landed without a record: then there is none to make.
    """
    gold = Gold(root)
    newest = gold.newest()
    zones = [(feed, Zone(landing, feed.topic)) for feed in feeds]
    landed = [(feed, zone.files()) for feed, zone in zones if zone.about.exists()]
    if newest is None and (not landed or any(files for _, files in landed)):
        raise ConfigError(f"GOLD_PATH: {root} has no run that ended; make one with: make etl")
    asked = [feed for feed in feeds if newest and feed.topic in newest.taken]
    return [
        *(_Audit(landing, gold, newest, feed, progress).report(is_first=feed is asked[0]) for feed in asked if newest),
        *(_pending(feed, files) for feed, files in landed if feed not in asked),
    ]


def _pending(feed: Feed, files: Sequence[LandedFile]) -> Report:
    """Return what there is to say of a feed that no run has taken anything of."""
    return Report(_title(feed), {"landed files": len(files), "pending files": len(files)}, [])


def _title(feed: Feed) -> str:
    return f"{feed.name} in gold"


@dataclass
class _Audit:
    """The audit of one feed."""

    landing: Path
    gold: Gold
    newest: Manifest
    feed: Feed
    progress: Progress
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.db = database()
        self._form = self.gold.form(self.newest.format)
        self._records: list[int] = []

    def report(self, *, is_first: bool) -> Report:
        """Look at everything. The first report names the tables that no audit computes again."""
        taken, files = taken_of(self.newest, self.feed.topic), Zone(self.landing, self.feed.topic).files()
        today = self.newest.taken[self.feed.topic].get(version_of(self.feed), {})
        asked = [file for file in files if overlap(of_files([file]), today)]
        step = Step("records", "each landed record is gold's row, or quarantine's with every reason, or repeats one")
        self._note_the_others(step, taken, today, files)
        with tempfile.TemporaryDirectory(prefix="audit-gold-") as folder:
            self._judge(step, asked, Path(folder))
            self._load(asked, Path(folder))
            self._compare(step, "_due", "_gold", "gold", [*schemas.silver(self.feed).names, EVENT_DATE])
            self._compare(step, "_refused", "_quarantine", QUARANTINE, [*schemas.QUARANTINE.names, LANDED_DATE])
            self._balance(step, asked)
        feeds = {*self.newest.shapes}
        others = {*self._form.tables(self.newest)} - feeds - {f"{QUARANTINE}/{feed}" for feed in feeds}
        for table in sorted(others) if is_first else []:
            sentence = f"{table}: is made by SQL, and not computed again"
            step.others.append(Check("tables", Verdict.BEYOND, 0, sentence))
        return Report(_title(self.feed), self.counts, list(step.checks()))

    def _note_the_others(self, step: Step, taken: Ranges, today: Ranges, files: Sequence[LandedFile]) -> None:
        """Note what was taken and cannot be judged again as it was, and what no run has taken yet."""
        gone, older = without(taken, of_files(files)), without(taken, today)
        if gone:
            step.not_audited(0, f"{_offsets(gone):,} offsets, whose landed files are gone")
        if older := without(older, gone):
            what = "offsets that other rules judged than those that the feed has now; make etl FULL=1 judges them again"
            step.not_audited(0, f"{_offsets(older):,} {what}")
        pending = [file for file in files if not overlap(of_files([file]), taken)]
        self.counts |= {"landed files": len(files), "pending files": len(pending)}

    def _judge(self, step: Step, files: Sequence[LandedFile], folder: Path) -> None:
        total, done = sum(file.last - file.first + 1 for file in files), [0]

        def told(records: int) -> None:
            done[0] += records
            self.progress(self.feed.name, done[0], total)

        found = expected(self.feed, [(file, self._reference(file)) for file in files], folder, told)
        step.rows = self.counts["landed"] = sum(one.records for one in found)
        step.wrong += [one.problem for one in found if one.problem]
        self._records += [one.records for one in found]

    def _reference(self, file: LandedFile) -> Reference:
        """Return by which reference data the run judged a file that took it."""
        own, pins = of_files([file]), self.newest.pins.get(self.feed.topic, {})
        pin = next((one for one, ranges in pins.items() if overlap(own, ranges)), NOTHING)
        return Reference(pin, snapshots_of(self.gold.root, self.feed, PlainSnapshot))

    def _load(self, files: Sequence[LandedFile], folder: Path) -> None:
        """Make views of what gold has of the judged records: _gold and _quarantine."""
        db, feed = self.db, self.feed
        places = "partition INTEGER, first BIGINT, last BIGINT"
        db.execute(f"CREATE TABLE _ranges ({places}); CREATE TABLE _files (number BIGINT, landed_date DATE, {places})")
        for partition, own in of_files(files).items():
            db.executemany("INSERT INTO _ranges VALUES (?, ?, ?)", [(partition, *one) for one in own])
        for number, file in enumerate(files):
            values = (number, file.hour.date(), file.partition, file.first, file.last)
            db.execute("INSERT INTO _files VALUES (?, ?, ?, ?, ?)", values)
        self._view("_all_gold", feed.name, EVENT_DATE, schemas.silver(feed))
        self._view("_all_quarantine", f"{QUARANTINE}/{feed.name}", LANDED_DATE, schemas.QUARANTINE)
        for view in ("gold", "quarantine"):
            db.execute(f"CREATE VIEW _{view} AS SELECT t.* FROM _all_{view} t WHERE {_JUDGED}")
        self._load_due(folder) if files else self._load_nothing()

    def _load_due(self, folder: Path) -> None:
        """Make views of what is due: _due, _refused, and _candidates with the repeats.

        Gold's rows of records that are not judged here are taken as they are: they may be what others repeat.
        """
        db, feed = self.db, self.feed
        own = ", ".join(map(name, schemas.silver(feed).names))
        day = f"({name(feed.event_time.field)} AT TIME ZONE 'UTC')::DATE AS {EVENT_DATE}"
        valid = f"SELECT {own}, {day}, {FILE} FROM {read_parquet(sorted(folder.glob('valid-*')))}"
        given = f"SELECT t.*, -1 AS {FILE} FROM _all_gold t WHERE NOT {_JUDGED}"
        keys = ", ".join([EVENT_DATE, *map(name, feed.dedupe.keys)] if feed.dedupe else ["partition", '"offset"'])
        first = f'row_number() OVER (PARTITION BY {keys} ORDER BY kafka_ts, partition, "offset") = 1'
        rows = f"{valid} UNION ALL BY NAME {given}"
        db.execute(f"CREATE TABLE _candidates AS SELECT *, {first} AS _is_first FROM ({rows})")
        db.execute(f"CREATE VIEW _due AS SELECT * FROM _candidates WHERE _is_first AND {FILE} >= 0")
        refused = read_parquet(sorted(folder.glob("refused-*")))
        dated = f"SELECT r.*, f.landed_date FROM {refused} r JOIN _files f ON f.number = r.{FILE}"
        db.execute(f"CREATE VIEW _refused AS {dated}")

    def _load_nothing(self) -> None:
        """Make the same views where no file is judged: nothing is due."""
        self.db.execute(f"CREATE VIEW _candidates AS SELECT *, -1 AS {FILE}, true AS _is_first FROM _gold LIMIT 0")
        self.db.execute("CREATE VIEW _due AS FROM _gold LIMIT 0; CREATE VIEW _refused AS FROM _quarantine LIMIT 0")

    def _view(self, view: str, table: str, by: str, columns: StructType) -> None:
        """Make a view of a table of gold, which may have no file."""
        if files := self._form.files(self.newest, table):
            day = f"regexp_extract(filename, '{by}=([0-9-]+)/[^/]*$', 1)::DATE AS {by}"
            shown = ", ".join([*map(name, columns.names), day])
            rows = f"read_parquet({paths(files)}, hive_partitioning = false, filename = true)"
            self.db.execute(f"CREATE VIEW {view} AS SELECT {shown} FROM {rows}")
        else:
            kinds = {column: one.duckdb for column, one in types_of(columns).items()} | {by: "DATE"}
            nothing = ", ".join(f"NULL::{kind} AS {name(column)}" for column, kind in kinds.items())
            self.db.execute(f"CREATE VIEW {view} AS SELECT {nothing} LIMIT 0")

    def _compare(self, step: Step, due: str, actual: str, called: str, columns: Sequence[str]) -> None:
        """Note what is missing, what is too much, what is there twice, and what differs, by place."""
        shown = ", ".join(map(name, columns))
        both = f"SELECT {shown} FROM {actual} SEMI JOIN {due} USING ({_PLACE})"
        for what, sql in {
            f"lost: due in {called}, and not there": f"SELECT {_PLACE} FROM {due} ANTI JOIN {actual} USING ({_PLACE})",
            f"in {called}, and not due": f"SELECT {_PLACE} FROM {actual} ANTI JOIN {due} USING ({_PLACE})",
            f"doubled in {called}": f"SELECT {_PLACE} FROM {actual} GROUP BY ALL HAVING count(*) > 1",
            f"altered in {called}": f"SELECT {_PLACE} FROM ({both} EXCEPT ALL SELECT {shown} FROM {due})",
        }.items():
            step.findings.query(self.db, what, sql)
        self.counts[called] = self._number(actual)

    def _balance(self, step: Step, files: Sequence[LandedFile]) -> None:
        """Note each file whose records are not its rows in gold, its quarantine and its repeats together."""
        found = self.db.sql(f"SELECT {FILE}, count(*) FROM _candidates WHERE NOT _is_first GROUP BY 1").fetchall()
        repeats = {number: count for number, count in found if number >= 0}
        self.counts["repeats"] = sum(repeats.values())
        gold, refused = self._by_file("_all_gold"), self._by_file("_all_quarantine")
        for number, file in enumerate(files):
            own = gold.get(number, 0), refused.get(number, 0), repeats.get(number, 0)
            if self._records[number] != sum(own):
                came_to = "{:,} in gold, {:,} in quarantine, {:,} repeats".format(*own)
                step.wrong.append(f"{file.path.name}: {self._records[number]:,} landed, {came_to}")

    def _by_file(self, view: str) -> dict[int, int]:
        """Return how many rows of a view each landed file has, by its number."""
        inside = 'r.partition = f.partition AND r."offset" BETWEEN f.first AND f.last'
        counted = f"SELECT f.number, count(*) FROM {view} r JOIN _files f ON {inside} GROUP BY ALL"
        return dict(self.db.sql(counted).fetchall())

    def _number(self, rows: str) -> int:
        return int(self.db.sql(f"SELECT count(*) FROM {rows}").fetchall()[0][0])


def _offsets(ranges: Ranges) -> int:
    return sum(last - first + 1 for own in ranges.values() for first, last in own)
