"""Bounds of the clock by which silver told repeats, and of the watermark that had come when a row of silver was read.

Silver drops a row that repeats a kept one of its key. The kept row's clock is then not behind the clock at the start of
the batch by more than `within` (layers/silver.py, sinks/dedupe/index.py, sources/layer_reader.py).

Silver's files say which rows were one batch, and its clock (storage/began.py). Then all is exact, but for records in
merged files of bronze between the rows of two batches: they may be of either. Files of older versions do not say it.
There a batch is known by a file that is not merged, and by the newest entries of silver's offset log. Of other merged
files it is only known that a batch took whole files of bronze. Its clock had come at least as far as the records up to
the end of silver's batch before, and no further than the records before its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from stream_app.contract.times import EPOCH, microseconds
from stream_app.ops.audit.places import NOWHERE, Flags, Numbers
from stream_app.ops.audit.stored import Stored
from stream_app.storage.batch_files import BatchFile
from stream_app.storage.checkpoint import PlannedBatch
from stream_app.storage.offsets import in_layer


class Clocks:
    """The clock with which that batch of silver began that took a record, in microseconds since the epoch."""

    def __init__(
        self, bronze: Stored, silver: Stored, rows: Numbers, batches: Sequence[PlannedBatch], *, pruned: bool
    ) -> None:
        """Take the layers, bronze's row of each of silver's, and the entries of silver's offset log.

        The row is NOWHERE for what was replayed. `pruned`: bronze's first files have gone.
        """
        self._bronze = bronze
        files = [held.file for held in bronze.files]
        times, read_by = bronze.column("kafka_ts"), np.array([read_by_us(file) for file in files], np.int64)
        of_file = bronze.file_of(np.arange(bronze.rows))
        self._merged = np.array([file.is_compacted for file in files], bool)
        capped = np.minimum(times, read_by[of_file])
        gone = read_by_us(files[0]) if pruned and files else 0
        self._least = running(capped, 0)
        self._most = running(np.where(self._merged[of_file], times, capped), gone)
        self._silver = silver
        found = np.array(list(_spans(silver, rows)), np.int64).reshape(-1, 3)
        # what is in one file of bronze is in one batch, unless it is merged
        file = bronze.file_of(found[:, 0])
        firsts = np.where(self._merged[file], found[:, 0], bronze.file_firsts[file])
        self._firsts = np.minimum.accumulate(firsts[::-1])[::-1]
        self._ends, self._began = np.maximum.accumulate(found[:, 1]), np.maximum.accumulate(found[:, 2])
        ends = [in_layer(batch.end) for batch in batches]
        self._ended = [end for end in ends if end.clock]  # very old versions noted none
        self._first_batch = np.array([file.first for file in files], np.int64)
        self._last_batch = np.array([file.last for file in files], np.int64)

    def least(self, rows: Numbers) -> Numbers:
        """Return the earliest that it can have been for each of those rows of bronze."""
        # what comes behind the last row of a batch of silver may be of that batch or a later one, but of none before
        own = np.searchsorted(self._firsts, rows, side="right") - 1
        earlier = own - 1
        ends = np.append(self._ends, 0)[earlier]
        file = self._bronze.file_of(ends)
        # the batch had taken the rest of the file, too, which is several if it is merged
        taken = np.where(self._merged[file], ends + 1, self._bronze.file_firsts[file + 1])
        found = np.where(earlier >= 0, self._least[taken], 0)
        found = np.maximum(found, np.where(own >= 0, np.append(self._began, 0)[own], 0))
        for end in self._ended:
            after = self._first_batch[self._bronze.file_of(rows)] > end.batch
            found = np.where(after, np.maximum(found, end.clock), found)
        return found

    def most(self, rows: Numbers) -> Numbers:
        """Return the latest that it can have been for each of those rows of bronze."""
        file = self._bronze.file_of(rows)
        found = self._most[np.where(self._merged[file], rows, self._bronze.file_firsts[file])]
        for before, end in pairwise(self._ended):
            taken = self._last_batch[file] <= end.batch
            found = np.where(taken, np.minimum(found, before.clock), found)
        return found

    def began(self, rows: Numbers) -> Numbers:
        """Return it for rows of silver as their files say, -1 where these do not."""
        clocks = [-1 if one.batch is None or one.clock is None else one.clock for one in self._silver.batches]
        return np.array([*clocks, -1], np.int64)[self._silver.batch_of(rows)]

    def ever(self) -> int:
        """Return the latest that it can have been."""
        return int(self._most[-1])


class EventTimes:
    """The newest event time of the rows of silver that were read before a row, in microseconds since the epoch."""

    def __init__(self, silver: Stored, column: str, gone: int | None) -> None:
        """Take silver and its column; `gone` is the newest that rows can have which were pruned, None if none were."""
        self._silver = silver
        self._several = np.array([one.batch is None for one in silver.batches], bool)
        self._newest = running(silver.column(column), -(2**62) if gone is None else gone)

    def before(self, rows: Numbers) -> Numbers:
        """Return the newest event time before each of those rows: a batch takes whole ones of silver, in order."""
        batch = self._silver.batch_of(rows)
        return self._newest[np.where(self._several[batch], rows, self._silver.batch_firsts[batch])]


def read_by_us(file: BatchFile) -> int:
    """Return the time by which all of a batch's records had come, by the file's name (sources/layer_reader.py)."""
    return microseconds(file.time - EPOCH) + 1_000_000


def running(values: Numbers, start: int) -> Numbers:
    """Return the greatest of `start` and the values before each, and at the end of all."""
    found: Numbers = np.maximum.accumulate(np.append(np.int64(start), values))
    return found


def one_batch(silver: Stored, rows: Numbers) -> Numbers:
    """Return a number for each row of silver that is the same for two only if these were one batch."""
    batch = silver.batch_of(rows)
    several: Flags = np.array([one.batch is None for one in silver.batches], bool)
    return np.where(several[batch], -1 - rows, batch)


def _spans(silver: Stored, rows: Numbers) -> Iterator[tuple[int, int, int]]:
    """Yield the first and the last row of bronze in each batch of silver that has any, and its clock.

    The clock is 0 if it is unknown.
    """
    for (first, end), one in zip(pairwise(silver.batch_firsts.tolist()), silver.batches, strict=True):
        own = rows[first:end]
        own = own[own != NOWHERE]
        if len(own):
            yield int(own.min()), int(own.max()), one.clock or 0
