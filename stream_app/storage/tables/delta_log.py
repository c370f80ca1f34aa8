"""Delta's log on a POSIX disk: delta-rs flushes nothing of it, so a power cut may leave its newest files torn.

An entry that is empty reads as a version without anything, and a torn one makes the whole table unreadable. What a
commit relies on is flushed when it is made; what a cut left of one that was not is taken away before a start.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.storage.batch_files import sync

_ENTRY = re.compile(r"\d{20}\.json")
_CHECKPOINT = re.compile(r"\d{20}\.checkpoint\.parquet")
_LAST_CHECKPOINT = "_last_checkpoint"


def log_of(root: Path) -> Path:
    """Return the folder of a table's log."""
    return root / "_delta_log"


def is_newest(root: Path, version: int) -> bool:
    """Return whether a version is the newest one, by two looks at the disk."""
    log = log_of(root)
    # where its own entry was cleaned up, that of the next one may have been, too
    return (log / f"{version:020d}.json").exists() and not (log / f"{version + 1:020d}.json").exists()


def flush(root: Path, first: int, last: int) -> None:
    """Have the entries of those versions on the disk, and the checkpoints that came with them."""
    log = log_of(root)
    has_checkpoint = False
    for version in range(first, last + 1):
        sync(log / f"{version:020d}.json")
        checkpoint = log / f"{version:020d}.checkpoint.parquet"
        if checkpoint.exists():
            sync(checkpoint)
            has_checkpoint = True
    if has_checkpoint:
        sync(log / _LAST_CHECKPOINT)
    sync(log)


def mend(root: Path) -> Iterator[str]:
    """Delete the newest entry and the newest checkpoint where they are torn; yield a line for each that went.

    The batch of such an entry was not committed by its query, so it runs again. Of a checkpoint the entries are there.
    """
    log = log_of(root)
    if not log.is_dir():
        return
    names = sorted(path.name for path in log.iterdir())
    torn = [
        *(log / name for name in list(filter(_CHECKPOINT.fullmatch, names))[-1:] if not _is_parquet(log / name)),
        *(log / name for name in list(filter(_ENTRY.fullmatch, names))[-1:] if not _is_entry(log / name)),
    ]
    pointer = log / _LAST_CHECKPOINT
    if pointer.exists() and (any(map(_is_checkpoint, torn)) or not _is_entry(pointer)):
        pointer.unlink()
    for path in torn:
        path.unlink()
        yield f"{path} was torn, as by a power cut, and was deleted"
    sync(log)


def _is_checkpoint(path: Path) -> bool:
    return _CHECKPOINT.fullmatch(path.name) is not None


def _is_entry(path: Path) -> bool:
    """Return whether a file is JSON, a line each, and has one at least."""
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError:
        return False
    return bool(lines)


def _is_parquet(path: Path) -> bool:
    try:
        pq.read_metadata(path)
    except (OSError, pa.ArrowInvalid):
        return False
    return True
