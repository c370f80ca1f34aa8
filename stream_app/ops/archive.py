"""Bronze's files that RETENTION=prune has deleted, made again from a table that follows bronze.

Such a table keeps beside each record which file it is from and what that says of itself (sources/provenance.py). So a
file that is made again holds the same records in the same order, and says the same. What was pruned before the table
was declared, or is in no table, stays gone.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.errors import ConfigError
from stream_app.feeds.schema import FILE, ROW, SAYS
from stream_app.feeds.sql import name, view
from stream_app.flows import chain
from stream_app.flows.flow import Flow
from stream_app.ops.views import connected
from stream_app.sinks.protocol import sink_of
from stream_app.sources.provenance import said
from stream_app.storage import parquet
from stream_app.storage.batch_files import BatchFile, parse, replace
from stream_app.storage.layout import merge_staging

_ROWS_AT_ONCE = 200_000
_BATCH_ROWS = 10_000


@dataclass(frozen=True)
class ArchivedFile:
    """A file of bronze whose records an archive holds."""

    file: BatchFile
    rows: int
    says: str

    @property
    def said(self) -> Mapping[bytes, bytes]:
        """What it said of itself, as its metadata had it."""
        return said(self.says)

    @property
    def follows(self) -> int:
        """The batch of the file before it; -1 for none."""
        return chain.followed(self.said)


@dataclass(frozen=True)
class Archive:
    """What a table has of bronze's files that were pruned: without a gap, up to the first that is there."""

    flow: Flow
    """That of the table."""
    files: tuple[ArchivedFile, ...]

    @property
    def before(self) -> int:
        """The newest batch that it has not; -1 where it has all."""
        return self.files[0].follows

    @property
    def rows(self) -> int:
        """How many records are in its files."""
        return sum(one.rows for one in self.files)

    @property
    def rows_sql(self) -> str:
        """The SQL for the rows of the table, in a database that has its view (ops/views.py)."""
        return _rows(self.flow)

    @property
    def place(self) -> str:
        """Where the table is."""
        return sink_of(self.flow).place(self.flow)

    def make(self, folder: Path) -> list[BatchFile]:
        """Make its files again in a folder, and return them, oldest first. Each appears whole.

        The newest comes first: where this dies, what is there has no gap, and is gone on from. Raises ConfigError where
        the disk has no room for them.
        """
        self._check_room(folder)
        with connected([self.flow]) as database:
            for group in _groups(self.files[::-1]):
                _make(database, self.flow, group[::-1], folder)
        return [
            BatchFile(one.file.first, one.file.last, one.file.time, folder / one.file.path.name) for one in self.files
        ]

    def bring_back(self) -> None:
        """Make its files again in bronze's own folder, while no service runs, and note that they are there."""
        bronze = self.flow.upstream
        assert bronze  # noqa: S101 - a table follows it
        self.make(bronze.layout.output)
        chain.regained(bronze, self.before)

    def _check_room(self, folder: Path) -> None:
        holding = sink_of(self.flow).holding(self.flow)
        if holding is None or not holding.rows:
            return
        needed, free = holding.bytes * self.rows // holding.rows, shutil.disk_usage(folder).free
        if needed > free:
            problem = f"bronze's pruned files are made again from {self.place} in {folder}"
            raise ConfigError(f"{problem}: about {needed / 1e6:,.0f} MB are needed, and {free / 1e6:,.0f} MB are free")


def of(bronze: Flow, standing: Sequence[BatchFile]) -> Archive | None:
    """Return what a table has of the files before bronze's first; `standing` are all files that bronze has.

    Of several tables it is the one that has most. It is None where nothing was pruned, or no table has it.
    """
    if chain.gone(bronze) < 0:
        return None
    found = (Archive(flow, _unbroken(_kept(flow), standing)) for flow in bronze.archives)
    return max((one for one in found if one.files), key=lambda one: len(one.files), default=None)


def _kept(flow: Flow) -> list[ArchivedFile]:
    assert flow.upstream  # noqa: S101 - it follows bronze
    sql = f"SELECT {FILE}, any_value({SAYS}), count(*) FROM {_rows(flow)} WHERE {FILE} IS NOT NULL GROUP BY ALL"
    with connected([flow]) as database:
        rows = database.execute(sql).fetchall()
    files = ((parse(flow.upstream.layout.output / file, flow.upstream.sink), count, says) for file, says, count in rows)
    return sorted((ArchivedFile(file, count, says) for file, count, says in files if file), key=lambda one: one.file)


def _unbroken(kept: Sequence[ArchivedFile], standing: Sequence[BatchFile]) -> tuple[ArchivedFile, ...]:
    """Return the files up to the first of `standing`, each the one before the next."""
    found = list[ArchivedFile]()
    newest = kept[-1].file.last if kept else -1
    before = chain.followed(parquet.said(standing[0].path)) if standing else newest
    for one in reversed(kept):
        if one.file.last == before and before >= 0:
            found.insert(0, one)
            before = one.follows
    return tuple(found)


def _groups(files: Sequence[ArchivedFile]) -> Iterator[list[ArchivedFile]]:
    group, rows = list[ArchivedFile](), 0
    for one in files:
        if group and rows + one.rows > _ROWS_AT_ONCE:
            yield group
            group, rows = [], 0
        group.append(one)
        rows += one.rows
    if group:
        yield group


def _make(database: duckdb.DuckDBPyConnection, flow: Flow, group: Sequence[ArchivedFile], folder: Path) -> None:
    assert flow.upstream  # noqa: S101 - it follows bronze
    columns = to_arrow_schema(flow.upstream.kind.columns, timezone="UTC")
    says = {one.file.path.name: one.said for one in group}
    numbers = pa.table({FILE: [*says], "_number": range(len(says))})
    database.register("_wanted", numbers)
    among = ", ".join(f"${number}" for number in range(1, len(says) + 1))
    sql = (
        f"SELECT {FILE}, {', '.join(map(name, columns.names))} FROM {_rows(flow)} JOIN _wanted USING ({FILE}) "
        f'WHERE {FILE} IN ({among}) ORDER BY _number, {ROW} NULLS FIRST, partition, "offset"'
    )
    rows = database.execute(sql, [*says]).to_arrow_reader(_BATCH_ROWS)
    staging = merge_staging(folder)
    staging.mkdir(parents=True, exist_ok=True)
    for file, own in groupby((run for batch in rows for run in _runs(batch)), key=lambda run: run[0]):
        batches = (batch.select(columns.names).cast(columns) for _, batch in own)
        parquet.write(batches, columns.with_metadata(says[file]), staging / file)
    for file in reversed(says):
        replace(staging / file, folder / file)


def _runs(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Yield the rows of each file in a batch."""
    first = 0
    runs = pc.run_end_encode(batch[FILE])
    for end, file in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
        yield file, batch.slice(first, end - first)
        first = end


def _rows(flow: Flow) -> str:
    return view(flow.feed.name, flow.sink)
