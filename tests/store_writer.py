"""Commits numbered batches to a table in a store, as the driver does, until it is killed.

What a batch holds is of its number alone. Each start writes the newest two batches again, as one does whose query did
not get to its commit. Trouble that is expected is told and tried again. A line `batch <n>` is an acknowledgement.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from stream_app.errors import StreamAppError
from stream_app.storage.tables.delta import Delta
from tests.stores import Bucket
from tests.tables import COLUMNS, OWNER, mark, numbered

ROWS = 3
"""Of each batch: those of batch 7 are 21, 22 and 23."""


def main(endpoint: str, bucket: str, folder: str) -> None:
    """Write to that bucket, with what is in the making in the folder."""
    table = Delta(Bucket(endpoint, bucket).place(Path(folder)))
    batch: int | None = None
    while True:
        try:
            if batch is None:
                if not table.exists():
                    table.create(COLUMNS, (), OWNER, 168)
                table.refresh()
                batch = max(0, (table.written("q") or 0) - 1)
            table.refresh()
            part = numbered(table, batch, *range(batch * ROWS, (batch + 1) * ROWS))
            table.commit(mark(batch), [part])
        except StreamAppError as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            time.sleep(0.1)
        else:
            print(f"batch {batch}", flush=True)
            batch += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
