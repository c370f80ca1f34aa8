"""What a lookup of 1,000,000 keys costs a record: `python -m tests.bench.lookup_speed`. Goal: 2 microseconds.

The keys of batches, as tasks have them, are found in a snapshot on disk, and a column of it is joined. The best of five
in CPU-seconds counts, since other processes share the machine.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from stream_app.storage import snapshots
from stream_app.storage.snapshots import KEY

KEYS, BATCH, BATCHES = 1_000_000, 10_000, 20


def microseconds(keys: pa.Array, asked: list[pa.Array], folder: Path) -> float:
    """Return what a record costs."""
    rows = pa.table({KEY: keys, "price": pa.array(range(KEYS), pa.int64())})
    of = snapshots.save(folder, "speed", snapshots.sorted_by_key(rows))
    snapshot = snapshots.opened(folder, "speed", of)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        for batch in asked:
            joined = snapshot.rows["price"].take(snapshot.find(batch))
            if joined.null_count:
                raise AssertionError(joined)
        seconds.append(time.process_time() - start)
    return min(seconds) / (BATCH * BATCHES) * 1e6


def main() -> None:
    """Write a line a type of key."""
    drawn = np.random.default_rng(1).integers(0, KEYS, (BATCHES, BATCH))
    with tempfile.TemporaryDirectory() as name:
        longs = microseconds(pa.array(np.arange(KEYS) * 7), [pa.array(one * 7) for one in drawn], Path(name))
        texts = [pa.array([f"client-{number:09}" for number in one]) for one in drawn]
        strings = microseconds(pa.array([f"client-{number:09}" for number in range(KEYS)]), texts, Path(name))
    sys.stdout.write(f"a long   {longs:.2f} us a record\na string {strings:.2f} us a record\n")


if __name__ == "__main__":
    main()
