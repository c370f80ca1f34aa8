"""Delta's log on a POSIX disk: delta-rs flushes nothing of it, so a power cut may leave its newest files torn.

An entry that is empty reads as a version without anything, and a torn one makes the whole table unreadable. What a
commit relies on is flushed when it is made; what a cut left of one that was not is taken away before a start.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.storage.batch_files import sync

_ENTRY = re.compile(r"\d{20}\.json")
_CHECKPOINT = re.compile(r"\d{20}\.checkpoint\.parquet")
_LAST_CHECKPOINT = "_last_checkpoint"
_IN_THE_MAKING = re.compile(r"\.\d{20}\.[0-9a-f]{16}\.tmp")
_LEFT_SECONDS = 3600.0

Action = Mapping[str, Mapping[str, Any]]
"""What an entry says, by the name of what it is: add, remove, txn, metaData, protocol, commitInfo."""


def log_of(root: Path) -> Path:
    """Return the folder of a table's log."""
    return root / "_delta_log"


def read(root: Path, version: int) -> list[Action] | None:
    """Return what the entry of a version says; None where there is no such file."""
    try:
        text = _entry(root, version).read_bytes()
    except FileNotFoundError:
        return None
    return [json.loads(line) for line in text.splitlines()]


def stamp(root: Path, version: int) -> tuple[int, int] | None:
    """Return what tells the entry of a version from another one of that name; None where it is not there."""
    try:
        found = _entry(root, version).stat()
    except FileNotFoundError:
        return None
    return (found.st_mtime_ns, found.st_ino)


def put(root: Path, version: int, actions: Sequence[Action]) -> bool:
    """Make a version, flushed and whole at once; return whether nobody had made it before."""
    entry = _entry(root, version)
    made = entry.with_name(f".{version:020d}.{secrets.token_hex(8)}.tmp")
    try:
        with made.open("x") as file:
            file.write("".join(f"{json.dumps(one, separators=(',', ':'))}\n" for one in actions))
            file.flush()
            os.fsync(file.fileno())
        os.link(made, entry)
    except FileExistsError:
        if not made.samefile(entry):  # over NFS, a link whose answer was lost is tried again
            return False
    finally:
        made.unlink(missing_ok=True)
    sync(entry.parent)
    return True


def last_checkpoint(root: Path) -> int:
    """Return the version of the newest checkpoint; -1 before the first."""
    try:
        return int(json.loads((log_of(root) / _LAST_CHECKPOINT).read_text())["version"])
    except FileNotFoundError:
        return -1


def flush(root: Path, first: int, last: int) -> None:
    """Have the entries of those versions on the disk, and the checkpoints that came with them."""
    log = log_of(root)
    has_checkpoint = False
    for version in range(first, last + 1):
        sync(_entry(root, version))
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
    _forget_what_died(log)
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


def _entry(root: Path, version: int) -> Path:
    return log_of(root) / f"{version:020d}.json"


def _forget_what_died(log: Path) -> None:
    """Delete entries that died in the making; one that is young may be of a command that runs beside this."""
    for path in log.iterdir():
        if _IN_THE_MAKING.fullmatch(path.name) and path.stat().st_mtime < time.time() - _LEFT_SECONDS:
            path.unlink(missing_ok=True)


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
