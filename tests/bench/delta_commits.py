"""What a commit to a Delta table costs as the table grows: `python -m tests.bench.delta_commits [VERSIONS]`, 5,000.

One small part a batch: added, and merged every 48, as the service does; or put in the place of the one before, as of
totals. A figure is the mean of a hundred commits, with the checkpoints among them, and takes in the look at the table
before and the flush. Goal: at 5,000 versions 1.5 times that at 100.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from stream_app.storage.tables.delta_on_disk import DeltaOnDisk
from tests.tables import mark, new, numbered

_MERGED = 48
_MEAN_OF = 100
_SHOWN = (100, 1_000, 2_000, 5_000)
Seconds = tuple[float, float]
"""Of CPU, and of the clock."""


def main(versions: int) -> None:
    """Print the means at some numbers of versions, and how they compare."""
    for name, commits in (("added", _added), ("replaced", _replaced)):
        with tempfile.TemporaryDirectory() as folder:
            table, means = new(Path(folder) / "table"), list[Seconds]()
            spent = commits(table)
            for at in (count for count in _SHOWN if count <= versions):
                last = [*islice(spent, at - _batches(table))][-_MEAN_OF:]
                cpu, wall = (1000 * sum(one) / len(last) for one in zip(*last, strict=True))
                means.append((cpu, wall))
                files = sum(1 for _ in Path(table.location, "_delta_log").iterdir())
                cost = f"{cpu:.2f} ms of CPU, {wall:.2f} ms"
                print(f"{name} {at:,}: {cost}, {files:,} files in the log, load {os.getloadavg()[0]:.0f}", flush=True)
            ratio = " and ".join(f"{last / first:.2f}" for first, last in zip(means[0], means[-1], strict=True))
            print(f"{name}: at the last {ratio} times that at {_SHOWN[0]}", flush=True)


def _batches(table: DeltaOnDisk) -> int:
    """How many batches it has."""
    newest = table.written("q")
    return 0 if newest is None else newest + 1


def _added(table: DeltaOnDisk) -> Iterator[Seconds]:
    for batch in range(sys.maxsize):
        part, before = numbered(table, batch, batch), _now()
        table.refresh()
        table.commit(mark(batch), [part])
        yield _since(before)
        if batch % _MERGED == _MERGED - 1:
            small = [file for file in table.live() if file.path.startswith("part-")]
            table.rewrite([numbered(table, batch, *range(len(small)))], small)


def _replaced(table: DeltaOnDisk) -> Iterator[Seconds]:
    for batch in range(sys.maxsize):
        part, before = numbered(table, batch, batch), _now()
        table.refresh()
        table.commit(mark(batch), [part], table.live())
        yield _since(before)


def _now() -> Seconds:
    return time.process_time(), time.perf_counter()


def _since(before: Seconds) -> Seconds:
    cpu, wall = _now()
    return cpu - before[0], wall - before[1]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else max(_SHOWN))
