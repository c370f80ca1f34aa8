"""Small files of a table become large ones beside its batches: one commit takes them out and the merged one in.

No reader sees a row twice, or not at all. Only files of one partition and of the same columns are merged, and never one
whose rows may change yet. Replaced files stay for the versions that need them, until those are old (RETENTION_HOURS).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import pyarrow.parquet as pq

from stream_app import logs
from stream_app.failpoints import reach
from stream_app.sinks.table_parts import MERGED, PART, folder_of, kind_of, written
from stream_app.sinks.table_rows import by_partition
from stream_app.storage import merging, parquet
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.tables.place import Place
from stream_app.storage.tables.table import File, Table, take_expired

_VERSIONS_A_LOOK = 100
"""A version expires a file or two. To ask for them all takes a while, as the log grows."""


class Tidying:
    """Tidies one table, time after time, on one handle: to open a table takes a while, as its log grows."""

    def __init__(
        self, name: str, table: Table, hadoop: Hadoop, most: int, statistics: Callable[[pq.FileMetaData], str]
    ) -> None:
        """Merge the files of batches where a partition has more than `most`."""
        self._name = name
        self._table = table
        self._root = table.place
        self._hadoop = hadoop
        self._most = most
        self._statistics = statistics
        self._is_there = False
        self._looked_at: int | None = None
        """The version at which expired files were asked for."""

    def once(self) -> None:
        """Merge small files, and merged ones where they became many; delete what no version needs that is kept."""
        self._is_there = self._is_there or self._table.exists()
        if not self._is_there:
            return
        self._table.refresh()
        self._merge_small()
        if self._looked_at is None or self._table.version - self._looked_at >= _VERSIONS_A_LOOK:
            if (hours := self._table.kept_hours) is not None:
                take_expired(self._name, self._table, hours)
            self._looked_at = self._table.version

    def _merge_small(self) -> None:
        most = self._most
        for _, files in by_partition(self._table.live()):
            small, merged = ([file for file in files if kind_of(file) == kind] for kind in (PART, MERGED))
            groups = merging.bounded(small[: len(small) - most // 2], _size) if len(small) > most else iter(())
            for group in (*groups, merging.dominated(merged, _size)):
                for same in _of_one_width(self._root, group):
                    self._merge(same)

    def _merge(self, files: Sequence[File]) -> None:
        if len(files) < 2:
            return
        table, partition = self._table, files[0].partition
        first, last = (Path(file.path).name.split("-")[1] for file in (files[0], files[-1]))
        name = f"{MERGED}-{first}-{last}-{secrets.token_hex(6)}.parquet"
        path = f"{folder_of(partition)}{name}"
        with self._root.fetched([file.path for file in files]) as small:
            merge = partial(parquet.merge, self._hadoop, small)
            part = written(self._root, path, merge, partition, self._statistics)
        self._root.settle({path: part.size})
        reach(self._name, "merged")
        if table.rewrite([part], files):
            reach(self._name, "swapped")
            logs.info(f"{self._name} compacted", files=len(files), file=name, bytes=part.size, version=table.version)
        else:  # somebody else changed the table; the next look finds what there is to do
            self._root.abandon([path])


def _of_one_width(root: Place, files: Sequence[File]) -> Iterator[list[File]]:
    """Yield runs of files that have the same columns: some may be of before the feed grew."""
    for _, own in groupby(files, key=lambda file: root.look(file.path).footer.schema.to_arrow_schema().names):
        yield list(own)


def _size(file: File) -> int:
    return file.size
