"""Tables as Delta tables: a run makes one commit in each.

    user_events/_delta_log/    which files hold the rows of each version
    user_events/event_date=2026-11-27/user_events_0000000007_00000.parquet

A run moves its files to the tables' folders, where no log names them, and renames its manifest into place. Then each
table takes the files of the changed days out, and the new ones in. That is one commit, which carries the run as
application transaction, so a run is in a table once, however often it is shown. Each table changes at once, but one may
change a moment before another. The manifests have the order of runs, and a version says its run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from stream_app import logs
from stream_app.errors import ConfigError
from stream_app.failpoints import reach
from stream_app.gold.files import link, prefix_of
from stream_app.gold.judge import EVENT_DATE, LANDED_DATE
from stream_app.gold.manifest import FLOW, Manifest
from stream_app.gold.tables import QUARANTINE
from stream_app.storage.batch_files import partitions, sync
from stream_app.storage.layout import staging
from stream_app.storage.tables.delta_statistics import statistics
from stream_app.storage.tables.on_disk import OnDisk
from stream_app.storage.tables.table import Mark, Part, take_expired

if TYPE_CHECKING:
    from stream_app.storage.tables.delta_on_disk import DeltaOnDisk

_OWNER = "gold"


@dataclass(frozen=True)
class DeltaTables:
    """Delta tables (gold/form.py)."""

    root: Path
    kept_hours: int

    def before(self, newest: Manifest) -> Path:
        """Return a folder with links to the files of each table's newest version.

        What others have done to a table since, as optimize or a delete, is in it.
        """
        folder = staging(self.root) / "before"
        for name in self.tables(newest):
            table = self._opened(name, newest)
            (folder / name).mkdir(parents=True)
            for file in table.live():
                day = folder / name / f"{by_of(name)}={file.partition[by_of(name)]}"
                day.mkdir(exist_ok=True)
                link(self.root / name / file.path, day / Path(file.path).name)
        return folder

    def prepare(self, manifest: Manifest, version: Path) -> None:
        """Move the files of the changed days to the tables' folders, and make the tables that are not there."""
        for name, days in manifest.days.items():
            self._admit(name, manifest)
            folder = self.root / name
            for path in folder.glob(f"*/{prefix_of(name, manifest.run)}*"):  # of a run that died, and never was
                path.unlink()
            for day in days:
                for path in sorted((version / name / f"{by_of(name)}={day}").glob("*.parquet")):
                    target = folder / path.parent.name / path.name
                    target.parent.mkdir(exist_ok=True)
                    sync(path)
                    path.rename(target)
                    sync(target.parent)
            sync(folder)

    def show(self, newest: Manifest) -> None:
        """Commit the run to each table that has not got it."""
        for name in newest.days:
            table = self._opened(name, newest)
            written = table.written(newest.gold)
            if written is None or written < newest.run:
                self._commit(table, name, newest)
                reach(FLOW, "table")
            take_expired(name, table, self.kept_hours)

    def tables(self, newest: Manifest) -> list[str]:
        """Return the names of all tables, quarantine's by feed."""
        return [*newest.columns]

    def files(self, newest: Manifest, table: str) -> list[Path]:
        """Return the files that hold the rows of a table's newest version.

        Raises ConfigError where that is not the one that the run left.
        """
        opened = self._opened(table, newest)
        written = opened.written(newest.gold) or 0
        if written > newest.run or (table in newest.days and written < newest.run):
            problem = f"is not as run {newest.run} leaves it; one is at it, or died"
            raise ConfigError(f"{opened.location}: {problem}; type make etl, and try again when that has ended")
        return [self.root / table / file.path for file in opened.live()]

    def _commit(self, table: DeltaOnDisk, name: str, manifest: Manifest) -> None:
        """Put the run's files in the place of all others of the days that it has made again."""
        days, columns = {*manifest.days[name]}, _columns(manifest, name)
        added = list(self._parts(name, manifest))
        says = {"name": manifest.name, "days": json.dumps(sorted(days)), "rows": str(sum(one.rows for one in added))}
        mark = Mark(manifest.gold, manifest.run, says)
        if _differs(table, columns):
            table.commit(mark, added, columns=columns)
        else:
            table.commit(mark, added, [file for file in table.live() if file.partition[by_of(name)] in days])
        logs.info("committed", table=name, version=table.version, days=len(days))

    def _parts(self, name: str, manifest: Manifest) -> Sequence[Part]:
        found = sorted((self.root / name).glob(f"*/{prefix_of(name, manifest.run)}*.parquet"))
        return [_part(self.root / name, path, by_of(name)) for path in found]

    def _admit(self, name: str, manifest: Manifest) -> None:
        """Make a table that is not there. Raise ConfigError where the run cannot be committed to one that is."""
        table, columns = self._table(name), _columns(manifest, name)
        if not table.exists():
            if found := [folder for folder in partitions(self.root / name) if any(folder.iterdir())]:
                raise ConfigError(f"GOLD_PATH: {found[0]} is in the way of a table of that name; move it away")
            self._create(table, columns, name, manifest)
        table.refresh()
        owner = table.owner.get(_OWNER, manifest.gold)
        if owner != manifest.gold and table.written(owner) is None and not table.live():  # of a first run that died
            self._create(table, columns, name, manifest)
        self._check(table, manifest)
        if table.kept_hours != self.kept_hours:
            table.own({_OWNER: manifest.gold}, self.kept_hours)
        kept = {file.partition[by_of(name)] for file in table.live()} - {*manifest.days[name]}
        if kept and _differs(table, columns):
            raise ConfigError(f"{table.location}: its columns were changed; make the table anew by --full")

    def _create(self, table: DeltaOnDisk, columns: pa.Schema, name: str, manifest: Manifest) -> None:
        Path(table.location).mkdir(parents=True, exist_ok=True)
        table.create(columns, [by_of(name)], {_OWNER: manifest.gold}, self.kept_hours)

    def _opened(self, name: str, newest: Manifest) -> DeltaOnDisk:
        table = self._table(name)
        if not table.exists():
            problem = f"is missing, and run {newest.run} is committed"
            raise ConfigError(f"{table.location}: {problem}; restore it, or move {self.root} away and type: make etl")
        table.refresh()
        self._check(table, newest)
        return table

    def _check(self, table: DeltaOnDisk, manifest: Manifest) -> None:
        """Raise ConfigError where somebody else's table is there, or one that is not ours to write any more."""
        if table.owner.get(_OWNER) != manifest.gold:
            raise ConfigError(f"GOLD_PATH: {table.location} is a table that no run here has made; move it away")
        if features := table.foreign_features():
            raise ConfigError(f"{table.location}: has features that the ETL does not write: {', '.join(features)}")

    def _table(self, name: str) -> DeltaOnDisk:
        from stream_app.storage.tables.delta_on_disk import DeltaOnDisk  # noqa: PLC0415 - 129 MB, which plain tables need not

        table = DeltaOnDisk(OnDisk(self.root / name))
        for line in table.mend():
            logs.warning(line)
        return table


def by_of(table: str) -> str:
    """Return the column by which a table is in folders."""
    return LANDED_DATE if table.startswith(f"{QUARANTINE}/") else EVENT_DATE


def _columns(manifest: Manifest, name: str) -> pa.Schema:
    found = to_arrow_schema(StructType.fromJson(json.loads(manifest.columns[name])), timezone="UTC")
    return pa.schema([field.with_nullable(True) for field in found])


def _differs(table: DeltaOnDisk, columns: pa.Schema) -> bool:
    return not table.columns.remove_metadata().equals(table.as_stored(columns).remove_metadata())


def _part(folder: Path, path: Path, by: str) -> Part:
    footer, day = pq.read_metadata(path), path.parent.name.partition("=")[2]
    return Part(str(path.relative_to(folder)), path.stat().st_size, footer.num_rows, {by: day}, statistics(footer))
