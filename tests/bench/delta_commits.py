"""What a commit to a Delta table costs as the table grows, in CPU: `python -m tests.bench.delta_commits [VERSIONS]`.

One small part a batch, merged every 48, as the service does. Goal: at 5,000 versions 1.5 times that at 100.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from stream_app.storage.tables.delta import Delta
from tests.tables import mark, new, numbered

_MERGED = 48
_SHOWN = (100, 500, 1_000, 2_000, 5_000)
_LAST = 50


def main(versions: int) -> None:
    """Print the mean of the last commits at some numbers of versions."""
    with tempfile.TemporaryDirectory() as folder:
        table, spent = new(Path(folder) / "table"), list[float]()
        for batch in range(versions):
            spent.append(_commit(table, batch))
            if batch % _MERGED == _MERGED - 1:
                small = [file for file in table.live() if file.path.startswith("part-")]
                table.rewrite([numbered(table, batch, *range(len(small)))], small)
            if batch + 1 in _SHOWN:
                log = sum(1 for _ in Path(folder, "table", "_delta_log").iterdir())
                milliseconds = 1000 * sum(spent[-_LAST:]) / _LAST
                cost = f"{milliseconds:.1f} ms of CPU a commit, {log:,} files in the log"
                print(f"{batch + 1:,} batches: {cost}, load {os.getloadavg()[0]:.0f}", flush=True)


def _commit(table: Delta, batch: int) -> float:
    part, before = numbered(table, batch, batch), time.process_time()
    table.refresh()
    table.commit(mark(batch), [part])
    return time.process_time() - before


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else max(_SHOWN))
