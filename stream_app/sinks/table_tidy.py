"""Small files of a table become large ones beside its batches: one commit takes them out and the merged one in.

No reader sees a row twice, or not at all. Only files of one partition and of the same columns are merged, and never one
whose rows may change yet. Replaced files stay for the versions that need them, until those are old (RETENTION_HOURS).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import pyarrow.parquet as pq

from stream_app import logs
from stream_app.failpoints import reach
from stream_app.sinks.table_parts import MERGED, PART, folder_of, kind_of, part_of
from stream_app.sinks.table_rows import by_partition
from stream_app.storage import merging, parquet
from stream_app.storage.batch_files import sync
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.tables.table import File, Table

_MANY_EXPIRED = 100
"""Each vacuum is two versions, so one is made for so many files at once."""


def merge_small(
    name: str, table: Table, root: Path, hadoop: Hadoop, most: int, statistics: Callable[[pq.FileMetaData], str]
) -> None:
    """Merge the files of batches where a partition has more than `most`, and merged ones where they became many."""
    for _, files in by_partition(table.live()):
        small, merged = ([file for file in files if kind_of(file) == kind] for kind in (PART, MERGED))
        groups = merging.bounded(small[: len(small) - most // 2], _size) if len(small) > most else iter(())
        for group in (*groups, merging.dominated(merged, _size)):
            for same in _of_one_width(root, group):
                _merge(name, table, root, hadoop, same, statistics)


def take_expired(name: str, table: Table) -> None:
    """Delete replaced files once they are many, and no version needs them that is kept."""
    hours = table.kept_hours
    table.refresh()
    if hours is not None and len(found := table.expired(hours, orphans=False)) >= _MANY_EXPIRED:
        table.vacuum(hours, orphans=False)
        logs.info(f"{name} deleted files that no version of the last {hours} hours needs", files=len(found))


def _merge(
    name: str,
    table: Table,
    root: Path,
    hadoop: Hadoop,
    files: Sequence[File],
    statistics: Callable[[pq.FileMetaData], str],
) -> None:
    if len(files) < 2:
        return
    partition = files[0].partition
    first, last = (Path(file.path).name.split("-")[1] for file in (files[0], files[-1]))
    target = root / folder_of(partition) / f"{MERGED}-{first}-{last}-{secrets.token_hex(6)}.parquet"
    parquet.merge(hadoop, [root / file.path for file in files], target)
    sync(target)
    sync(target.parent)
    reach(name, "merged")
    part = part_of(root, target, partition, statistics)
    if table.rewrite([part], files):
        reach(name, "swapped")
        logs.info(f"{name} compacted", files=len(files), file=target.name, bytes=part.size, version=table.version)
    else:  # somebody else changed the table; the next look finds what there is to do
        target.unlink()


def _of_one_width(root: Path, files: Sequence[File]) -> Iterator[list[File]]:
    """Yield runs of files that have the same columns: some may be of before the feed grew."""
    for _, own in groupby(files, key=lambda file: pq.read_schema(root / file.path).names):
        yield list(own)


def _size(file: File) -> int:
    return file.size
