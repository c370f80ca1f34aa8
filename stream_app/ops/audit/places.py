"""Which (partition, offset) a layer holds, and in which of its rows: 16 bytes a record, found by halving."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]
Place = tuple[int, int]

NOWHERE = -1
"""The row of a place that a layer does not hold."""


class Places:
    """The places of rows that are numbered from 0."""

    def __init__(self, by_partition: Mapping[int, tuple[Numbers, Numbers]]) -> None:
        """Take the offsets of each partition in order, and the row of each."""
        self._by_partition = by_partition

    @classmethod
    def of(cls, partitions: Numbers, offsets: Numbers) -> Places:
        """Return the places of the rows with those coordinates."""
        found = {}
        for partition in np.unique(partitions).tolist():
            rows = np.flatnonzero(partitions == partition)
            order = np.argsort(offsets[rows], kind="stable")
            found[partition] = (offsets[rows][order], rows[order])
        return cls(found)

    def save(self, folder: Path) -> None:
        """Write them where `load` finds them."""
        folder.mkdir()
        for partition, (offsets, rows) in self._by_partition.items():
            np.save(folder / f"{partition}.offsets.npy", offsets)
            np.save(folder / f"{partition}.rows.npy", rows)

    @classmethod
    def load(cls, folder: Path) -> Places:
        """Return what was saved; several processes have it in memory once."""
        offsets = {int(path.name.partition(".")[0]): path for path in folder.glob("*.offsets.npy")}
        return cls(
            {
                partition: (_mapped(path), _mapped(path.with_name(f"{partition}.rows.npy")))
                for partition, path in offsets.items()
            }
        )

    def __len__(self) -> int:
        return sum(len(offsets) for offsets, _ in self._by_partition.values())

    def find(self, partitions: Numbers, offsets: Numbers) -> Numbers:
        """Return the row of each place, the first of several, or NOWHERE."""
        found = np.full(len(offsets), NOWHERE, np.int64)
        for partition in np.unique(partitions).tolist():
            own, rows = self._by_partition.get(partition, (offsets[:0], offsets[:0]))
            if not len(own):
                continue
            asked = np.flatnonzero(partitions == partition)
            at = np.searchsorted(own, offsets[asked])
            at[at == len(own)] = 0
            held = own[at] == offsets[asked]
            found[asked[held]] = rows[at[held]]
        return found

    def doubled(self) -> Iterator[Place]:
        """Yield every place that has more than one row."""
        for partition, (offsets, _) in sorted(self._by_partition.items()):
            again = np.unique(offsets[1:][offsets[1:] == offsets[:-1]])
            yield from ((partition, offset) for offset in again.tolist())

    def not_in(self, other: Places) -> Iterator[Place]:
        """Yield every place that the other has no row of."""
        for partition, (offsets, _) in sorted(self._by_partition.items()):
            missing = other.find(np.full(len(offsets), partition), offsets) == NOWHERE
            yield from ((partition, offset) for offset in np.unique(offsets[missing]).tolist())

    def gaps(self) -> int:
        """Return how many offsets between a partition's first and last have no row."""
        spans = (offsets for offsets, _ in self._by_partition.values() if len(offsets))
        return sum(int(offsets[-1] - offsets[0]) + 1 - len(np.unique(offsets)) for offsets in spans)

    def first(self, partition: int) -> int | None:
        """Return a partition's first offset, or None if it has none."""
        offsets, _ = self._by_partition.get(partition, (np.empty(0, np.int64), None))
        return int(offsets[0]) if len(offsets) else None


def _mapped(path: Path) -> Numbers:
    loaded: Numbers = np.load(path, mmap_mode="r")
    return loaded
