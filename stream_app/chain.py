"""The files of a layer that others follow are a chain: each names the batch of the file before it.

A follower's offset is a batch id, and a batch without rows has no file: ids alone do not tell that one was deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.files import BatchFile, parse, replace_text
from stream_app.flow import Flow

_LAST_FILE = "last_file"
_FOLLOWS = b"follows_batch"


def remember(flow: Flow, file: Path) -> None:
    """Keep the name of the newest file beside the checkpoint: a start notices if it has gone, the next one names it."""
    # not flushed, for each batch writes it: with an older name, neither would see a file that is missing
    replace_text(flow.checkpoint.path / _LAST_FILE, file.name, flushed=False)


def last_file(flow: Flow) -> BatchFile | None:
    """The newest file, wherever its batch is now; None before the first."""
    try:
        return parse(flow.output / (flow.checkpoint.path / _LAST_FILE).read_text(), flow.sink)
    except FileNotFoundError:
        return None


def link(flow: Flow) -> dict[bytes, bytes]:
    """What the flow's next file says of itself, as metadata of Parquet; a merged file keeps what its first one says."""
    if not flow.downstream:
        return {}
    last = last_file(flow)
    return {_FOLLOWS: str(last.last if last else -1).encode()}


def missing(read: int, files: Sequence[BatchFile], end: int) -> int | None:
    """The first batch whose file has gone from those after batch `read`, of which `end` is planned to be read.

    None if all are there. Who has read nothing (-1) begins with what there is (`before`). Files that were written
    without a link do not tell.
    """
    last = read if read >= 0 or not files else files[0].first - 1
    for file in files:
        if (follows := _follows(file)) > last:
            return follows
        last = file.last
    return None if end <= read or any(file.last == end for file in files) else end


def before(files: Sequence[BatchFile]) -> int | None:
    """The batch before the first file, if that had one: RETENTION=prune deletes the oldest, or somebody did."""
    return next((batch for file in files[:1] if (batch := _follows(file)) >= 0), None)


def _follows(file: BatchFile) -> int:
    try:
        return int((pq.read_metadata(file.path).metadata or {}).get(_FOLLOWS, -1))
    except (OSError, pa.ArrowInvalid):  # whoever reads a damaged file says so
        return -1
