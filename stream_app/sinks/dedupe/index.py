"""Which records silver holds already: a digest of each dedupe key, kept for as long as a repeat is looked for.

Spark's own deduplication passes each key through the JVM, a shuffle and RocksDB. After each batch, however small, it
looks at its whole state: of an hour at 2,000 records/s, seven million keys (docs/benchmark.md). Here a batch costs what
its own rows cost. The keys are sorted runs of 24 bytes each, in memory and in `<checkpoint>/seen`. The newest runs are
merged once they have grown to half of the one before.

Guarantee: a function of the batches before. A batch's keys are in a file of its own before its rows are published. Only
the runs of earlier batches are merged, so a batch that runs again leaves out what it wrote the last time. A merged file
appears by one rename. Until the last file that it covers is deleted, `batch_files.standing` knows it for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa

from stream_app.contract.times import microseconds
from stream_app.flows.batch import Batch
from stream_app.storage import key_runs
from stream_app.storage.batch_files import BatchFile, batch_file, batch_files, standing
from stream_app.storage.key_runs import PREFIX, Keys, Numbers

KEY_BYTES = 16
ENTRY = np.dtype([("key", f"S{KEY_BYTES}"), ("clock", "<i8")])
"""A row's digest and its clock (layers/silver.py)."""
Entries = np.ndarray[tuple[int], np.dtype[np.void]]

_NO_KEY = bytes(KEY_BYTES)


def entries(keys: Sequence[pa.Array], clock: pa.Array) -> Entries:
    """Return what identifies each row by the columns of its dedupe key, and its clock in microseconds since the epoch.

    Without columns nothing does, which Seen is then not asked for.
    """
    found = np.zeros(len(clock), ENTRY)
    columns = [_bytes(column).to_pylist() for column in keys]
    if columns:
        texts = columns[0] if len(columns) == 1 else map(_joined, zip(*columns, strict=True))
        found["key"] = [_NO_KEY if text is None else blake2b(text, digest_size=KEY_BYTES).digest() for text in texts]
    found["clock"] = clock.cast(pa.int64()).to_numpy()
    return found


def _bytes(column: pa.Array) -> pa.Array:
    return column if pa.types.is_binary(column.type) else column.cast(pa.string()).cast(pa.binary())


def _joined(values: tuple[bytes, ...]) -> bytes:
    # with the lengths, or ("a", "bc") would be ("ab", "c")
    return b"".join(b"%d:%s" % (len(value), value) for value in values)


@dataclass(frozen=True, eq=False)
class _Run:
    """The keys of some batches in order, and the clock of each."""

    file: BatchFile
    keys: Keys
    clocks: Numbers

    @cached_property
    def newest(self) -> int:
        """The newest clock."""
        return int(self.clocks.max())


class Seen:
    """The keys of one query, from one start of it to the next."""

    def __init__(self, folder: Path, within: timedelta | None) -> None:
        """Keep them in the folder. Without `within` no row repeats another, and nothing is kept."""
        self._folder = folder
        self._within = None if within is None else microseconds(within)
        self._runs: list[_Run] = []
        self._next_batch: int | None = None

    @property
    def rows(self) -> int:
        """How many keys are held."""
        return sum(len(run.keys) for run in self._runs)

    @property
    def bytes(self) -> int:
        """The memory that they take."""
        return self.rows * ENTRY.itemsize

    def take(self, batch: Batch, since: int, rows: Entries) -> Numbers:
        """Return the positions of the rows that are no repeats, in order; from now on these are seen.

        `since` is the clock at the start of the batch, in microseconds since the epoch; no row's clock is before it. A
        repeat follows a kept row of its key by `within` or less. Of a batch's own rows the first one stays.
        """
        if self._within is None:
            return np.arange(len(rows))
        if batch.id != self._next_batch:
            self._load(batch.id)
        horizon = since - self._within
        self._merge(horizon)
        distinct, first = np.unique(rows["key"], return_index=True)
        new = ~self._holds(distinct, horizon)
        if new.any():
            file = batch_file(self._folder, PREFIX, "npy", batch.time_ms, batch.id)
            self._add(_Run(file, distinct[new], rows["clock"][first[new]]))
        self._next_batch = batch.id + 1
        return np.sort(first[new])

    def _holds(self, keys: Keys, horizon: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        found = np.zeros(len(keys), bool)
        for run in self._runs:
            at = np.minimum(np.searchsorted(run.keys, keys), len(run.keys) - 1)
            found |= (run.keys[at] == keys) & (run.clocks[at] >= horizon)
        return found

    def _load(self, before: int) -> None:
        """Read the runs of the batches before; what others have left is deleted."""
        files = batch_files(self._folder, PREFIX)
        kept = standing([file for file in files if file.last < before])
        _delete([file for file in files if file not in kept])
        self._runs = []
        for file in kept:
            self._runs.append(_Run(file, *key_runs.load(file.path)))

    def _merge(self, horizon: int) -> None:
        """Drop the runs that no row can repeat any more, and merge the newest where they have grown."""
        ended = [run for run in self._runs if run.newest < horizon]
        _delete([run.file for run in ended])
        self._runs = [run for run in self._runs if run not in ended]
        first, size = len(self._runs), 0
        while first and (not size or len(self._runs[first - 1].keys) < 2 * size):
            first -= 1
            size += len(self._runs[first].keys)
        if len(self._runs) - first < 2:
            return
        # an hour may be gigabytes, so nothing is held for longer than it is needed
        merged, self._runs = self._runs[first:], self._runs[:first]
        files = [run.file for run in merged]
        keys = np.concatenate([run.keys[run.clocks >= horizon] for run in merged])
        clocks = np.concatenate([run.clocks[run.clocks >= horizon] for run in merged])
        del merged
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        clocks = clocks[order]
        time_ms = int(files[0].time.timestamp() * 1000)
        self._add(_Run(batch_file(self._folder, PREFIX, "npy", time_ms, files[0].first, files[-1].last), keys, clocks))
        _delete(files)

    def _add(self, run: _Run) -> None:
        self._folder.mkdir(exist_ok=True)
        key_runs.save(run.file.path, run.keys, run.clocks)
        self._runs.append(run)


def _delete(files: Sequence[BatchFile]) -> None:
    for file in files:
        file.path.unlink()
