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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.storage.batch_files import sync

_ENTRY = re.compile(r"\d{20}\.json")
_CHECKPOINT = re.compile(r"\d{20}\.checkpoint\.parquet")
_LAST_CHECKPOINT = "_last_checkpoint"
# Ours, and of delta-rs, which writes beside the name of a file.
_IN_THE_MAKING = re.compile(
    r"\.\d{20}\.[0-9a-f]{16}\.tmp|(?:\d{20}\.(?:json|checkpoint\.parquet)|_last_checkpoint)#\d+"
)
_LEFT_SECONDS = 3600.0

Action = Mapping[str, Mapping[str, Any]]
"""What an entry says, by the name of what it is: add, remove, txn, metaData, protocol, commitInfo."""


def log_of(root: Path) -> Path:
    """Return the folder of a table's log."""
    return root / "_delta_log"


def read(root: Path, version: int) -> list[Action] | None:
    """Return what the entry of a version says; None where there is no such file. Raises ValueError where it is torn."""
    try:
        text = _entry(root, version).read_bytes()
    except FileNotFoundError:
        return None
    actions = [json.loads(line) for line in text.splitlines()]
    if not all(isinstance(one, dict) for one in actions):
        problem = "has lines that are no objects"
        raise ValueError(problem)
    return actions


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
    except (FileNotFoundError, ValueError, LookupError, TypeError):  # readers look for checkpoints without it, too
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


def torn(root: Path) -> tuple[list[Path], Path | None]:
    """Return the files that a power cut left torn and no reader needs, and a checkpoint that is damaged and needed.

    Entries are torn at the end of the log. Several commits may be flushed together, in any order, so an entry that
    brings no rows goes with the one before it. The batch of such an entry was not committed by its query, so it runs
    again. In the place of a checkpoint there are the entries since the one before.
    """
    log = log_of(root)
    names = sorted(path.name for path in log.iterdir()) if log.is_dir() else []
    entries = [log / name for name in names if _ENTRY.fullmatch(name)]
    checkpoints = [log / name for name in names if _CHECKPOINT.fullmatch(name)]
    gone = _torn_end(entries)
    kept = {*map(_version, entries)} - {*map(_version, gone)}
    damaged = list[Path]()
    while checkpoints and not _is_parquet(checkpoints[-1]):
        damaged.append(checkpoints.pop())
    first = _version(checkpoints[-1]) + 1 if checkpoints else 0
    is_needed = bool(damaged) and not (kept and kept.issuperset(range(first, max(kept) + 1)))
    gone += damaged
    newest = f"{last_checkpoint(root):020d}.checkpoint."
    if (pointer := log / _LAST_CHECKPOINT).exists() and not any(
        name.startswith(newest) and log / name not in gone for name in names
    ):
        gone.append(pointer)
    return gone, damaged[0] if is_needed else None


def mend(root: Path, gone: Sequence[Path]) -> list[str]:
    """Delete files that are torn, and what died in the making; return a line for each that a power cut left torn."""
    log = log_of(root)
    if not log.is_dir():
        return []
    _forget_what_died(log)
    for path in gone:
        path.unlink()
    sync(log)
    return [f"{path} was torn, as by a power cut, and was deleted" for path in gone if path.name != _LAST_CHECKPOINT]


def _torn_end(entries: Sequence[Path]) -> list[Path]:
    """Return the entries from the first torn one on, of those at the end that are torn or bring no rows."""
    found, end = list[Path](), list[Path]()
    for path in reversed(entries):
        end.append(path)
        if not _is_entry(path):
            found = [*end]
        elif not _says_nothing(path):
            break
    return found


def _entry(root: Path, version: int) -> Path:
    return log_of(root) / f"{version:020d}.json"


def _forget_what_died(log: Path) -> None:
    """Delete what died in the making; one that is young may be of a command that runs beside this."""
    for path in log.iterdir():
        if _IN_THE_MAKING.fullmatch(path.name) and path.stat().st_mtime < time.time() - _LEFT_SECONDS:
            path.unlink(missing_ok=True)


def _version(path: Path) -> int:
    return int(path.name[:20])


def _is_entry(path: Path) -> bool:
    """Return whether a file is JSON, an object each line, and has one at least."""
    try:
        return bool(read(path.parent.parent, _version(path)))
    except ValueError:
        return False


def _says_nothing(path: Path) -> bool:
    """Return whether an entry does nothing but tell of itself, as those of vacuum."""
    return {key for one in read(path.parent.parent, _version(path)) or () for key in one} <= {"commitInfo"}


def _is_parquet(path: Path) -> bool:
    try:
        pq.read_metadata(path)
    except (OSError, pa.ArrowInvalid):
        return False
    return True
