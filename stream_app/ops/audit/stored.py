"""The rows of a layer's files, numbered in the order of the files, and read by those numbers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.errors import StreamAppError
from stream_app.feeds.growth import Columns, lifted
from stream_app.ops.audit.places import Numbers
from stream_app.storage import began, pins
from stream_app.storage.batch_files import BatchFile
from stream_app.storage.began import Began
from stream_app.storage.pins import NOTHING

# Bronze and the layer that follows have one order, so a share of bronze needs one or two of these.
_KEPT_GROUPS = 4


@dataclass(frozen=True)
class Held:
    """A file, and the path by which it can be read though somebody deletes it."""

    file: BatchFile
    path: str
    groups: tuple[int, ...]
    """The rows of each of its row groups."""
    batches: tuple[Began, ...]
    """Its batches, as far as it tells (storage/began.py); a file that is not merged is one."""

    @property
    def rows(self) -> int:
        """How many it has."""
        return sum(self.groups)


@dataclass
class Stored:
    """The files of a layer. Each row group is read when it is asked for."""

    files: Sequence[Held]
    columns: pa.Schema
    _read: OrderedDict[int, pa.Table] = field(default_factory=OrderedDict, repr=False)

    def __post_init__(self) -> None:
        self._groups = [(held, index) for held in self.files for index in range(len(held.groups))]
        self._firsts = np.array([0, *accumulate(rows for held in self.files for rows in held.groups)], np.int64)
        self.file_firsts = np.array([0, *accumulate(held.rows for held in self.files)], np.int64)
        """The number of each file's first row, and of the row after the last."""
        self.batches = [one for held in self.files for one in held.batches]
        self.batch_firsts = np.array([0, *accumulate(one.rows for one in self.batches)], np.int64)
        """The same of what the files tell of batches."""

    @property
    def rows(self) -> int:
        """How many there are."""
        return int(self.file_firsts[-1])

    def column(self, name: str) -> Numbers:
        """Return a column of integers or times of all rows, as int64; -1 for null, which no file of ours has."""
        kind = self.columns.field(name).type
        parts = [np.empty(0, np.int64)]
        for held in self.files:
            with opened(held) as file:
                values = file.read(columns=[name])[name].cast(kind)
            parts.append(values.cast(pa.int64()).fill_null(-1).to_numpy())
        return np.concatenate(parts)

    def file_of(self, rows: Numbers) -> Numbers:
        """Return the number of the file that each row is in."""
        return np.searchsorted(self.file_firsts, rows, side="right") - 1

    def batch_of(self, rows: Numbers) -> Numbers:
        """Return the place in `batches` of each row's."""
        return np.searchsorted(self.batch_firsts, rows, side="right") - 1

    @cached_property
    def _pins(self) -> list[str]:
        return [next(pins.named(pq.read_metadata(held.path))) for held in self.files]

    def pins(self, rows: Numbers) -> list[str]:
        """Return the pin of each row's file, "" for a number that is of none. A file of the ledger has one."""
        if not self.files:
            return [NOTHING] * len(rows)
        of = self._pins
        return [of[number] if 0 <= number < len(of) else NOTHING for number in self.file_of(rows).tolist()]

    def take(self, rows: Numbers) -> pa.Table:
        """Return those rows, in that order."""
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        groups = np.searchsorted(self._firsts, ascending, side="right") - 1
        parts = [self.columns.empty_table()]
        for group in np.unique(groups).tolist():
            own = ascending[groups == group] - self._firsts[group]
            parts.append(self._group(group).take(pa.array(own)))
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return pa.concat_tables(parts).combine_chunks().take(pa.array(back))

    def _group(self, group: int) -> pa.Table:
        if group not in self._read:
            held, index = self._groups[group]
            with opened(held) as file:
                table = file.read_row_group(index, columns=self.columns.names, use_threads=False)
            self._read[group] = lifted(table, self.columns)
            if len(self._read) > _KEPT_GROUPS:
                self._read.popitem(last=False)
        self._read.move_to_end(group)
        return self._read[group]


@contextmanager
def opened(held: Held) -> Iterator[pq.ParquetFile]:
    """Open a file, whose checksums are looked at. Raises StreamAppError, naming it, where it cannot be read."""
    try:
        with pq.ParquetFile(held.path, page_checksum_verification=True) as file:
            yield file
    except FileNotFoundError:  # retention took it
        raise
    except (OSError, pa.ArrowInvalid) as error:
        raise StreamAppError(f"{held.file.path} cannot be read: {' '.join(str(error).split())}") from None


def held(file: BatchFile, path: object) -> Held:
    """Return the file with its row groups."""
    found = Held(file, str(path), (), ())
    with opened(found) as parquet:
        metadata = parquet.metadata
        groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
        batches = began.of(metadata)
    if not file.is_compacted:
        batches = [replace(batches[0], batch=file.first, rows=sum(groups))]
    elif sum(one.rows for one in batches) != sum(groups):  # somebody wrote the file again
        batches = [Began(None, sum(groups), None)]
    return replace(found, groups=groups, batches=tuple(batches))


def strange_columns(held: Held, columns: Columns) -> str:
    """Return which columns a file lacks, or has of another type."""
    with opened(held) as parquet:
        own = {one.name: one.type for one in parquet.schema_arrow}
    return ", ".join(name for name, one in columns.items() if own.get(name) != one.arrow)
