"""The files of a layer: what they are called, and which of them stand.

    silver_20261121_012030_0000000042.parquet                one micro-batch: layer _ batch time _ batch id
    silver_20261121_010000_0000000000-0000000119.parquet     those batches, compacted

The batch time is UTC and comes from the checkpoint's offset log, so a replayed batch has the same name.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from operator import attrgetter
from pathlib import Path

_NAME = re.compile(
    r"(?P<layer>[a-z][a-z0-9_]*)_(?P<time>\d{8}_\d{6})_(?P<first>\d{10,})(?:-(?P<last>\d{10,}))?\.(?P<ext>[a-z]+)"
)
_REMEMBERED = 50_000  # of names, as in row_counts.py
# A folder whose last change is older than any file system's clock is coarse: another change would show.
_SETTLED_NS = 2_000_000_000
_ENOUGH_LOOKS, _MOST_LOOKS = 2, 20
_TIME_FORMAT = "%Y%m%d_%H%M%S"

REPLAY = "replay"
"""The file prefix of records that were taken out of quarantine, which is no layer."""


@dataclass(frozen=True, order=True)
class BatchFile:
    """One data file: the micro-batches `first` to `last` of a layer. Files order by their batches."""

    first: int
    last: int
    time: datetime
    path: Path

    @cached_property
    def is_compacted(self) -> bool:
        """Whether the file holds a range of micro-batches, even if only one of them had rows."""
        return holds_range(self.path.name)

    def covers(self, other: BatchFile) -> bool:
        """Whether this compacted file took the other's place."""
        return self is not other and self.is_compacted and self.first <= other.first and other.last <= self.last


def holds_range(name: str) -> bool:
    """Return whether a batch file of that name is a compacted one."""
    return "-" in name  # of ids alone: no sink's name has one


def last_batch(name: str) -> int:
    """Return the newest batch that a batch file of that name holds, of whatever layer."""
    match = _NAME.fullmatch(name)
    assert match  # noqa: S101 - a reader has found it by its name
    return int(match["last"] or match["first"])


def batch_file(
    directory: Path, layer: str, extension: str, time_ms: int, first: int, last: int | None = None
) -> BatchFile:
    """Return the file of a micro-batch, or of the batches `first` to `last`.

    `time_ms` is in milliseconds since the epoch.
    """
    time = datetime.fromtimestamp(time_ms // 1000, tz=UTC)
    ids = f"{first:010d}" if last is None else f"{first:010d}-{last:010d}"
    name = f"{layer}_{time:{_TIME_FORMAT}}_{ids}.{extension}"
    return BatchFile(first, first if last is None else last, time, directory / name)


def parse(path: Path, layer: str) -> BatchFile | None:
    """Return the batch file of that path, or None where the name is not one of this layer's."""
    return _parse(path.parent, path.name, layer)


@lru_cache(maxsize=_REMEMBERED)
def _parse(directory: Path, name: str, layer: str) -> BatchFile | None:
    match = _NAME.fullmatch(name)
    if match is None or match["layer"] != layer:
        return None
    try:
        time = datetime.fromisoformat(f"{match['time'].replace('_', 'T')}+00:00")  # strptime takes ten times as long
    except ValueError:  # digits that are no date
        return None
    first = int(match["first"])
    return BatchFile(first, int(match["last"] or first), time, directory / name)


def data_paths(directory: Path) -> list[Path]:
    """Every path that a reader of the plain folder would open: names that start with _ or . are hidden from readers."""
    return [directory / name for name in sorted(_names(directory))]


def _names(directory: Path) -> list[str]:
    if not directory.is_dir():
        return []
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if entry.name[0] not in "._"]


def partitions(directory: Path) -> list[Path]:
    """Return the folders of a lake, as `event_date=2026-11-21`, in the order of their names."""
    if not directory.is_dir():
        return []
    with os.scandir(directory) as entries:  # which knows the folders without asking for each
        return sorted(directory / entry.name for entry in entries if "=" in entry.name and entry.is_dir())


def batch_files(directory: Path, layer: str, after: int = -1, up_to: float = math.inf) -> list[BatchFile]:
    """Return the layer's files that hold a batch after `after` and up to `up_to`, oldest first.

    Files that a compacted file covers are among them. No batch is missing, whatever is merged meanwhile.
    """
    modified, now = _modified(directory), time.time_ns()
    found = _look(directory, layer, after, up_to)
    if now - modified > _SETTLED_NS and _modified(directory) == modified:
        return found
    # A listing is no snapshot. A merge in the midst of it may hide both names: the merged file's, which came behind the
    # place that was reached, and that of a file that it covers, which went before its turn. So each file of a listing
    # must be in the next one, or be covered there: twice, as a merged file may be merged again at once. What
    # RETENTION=prune deletes is neither; after some looks it is taken for gone.
    held = 0
    for _ in range(_MOST_LOOKS):
        before, found = found, _look(directory, layer, after, up_to)
        held = held + 1 if _holds(found, before) else 0
        if held == _ENOUGH_LOOKS:
            break
    return found


def _modified(directory: Path) -> int:
    """When a name last came to the folder, or went; 0 where there is none."""
    try:
        return directory.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _look(directory: Path, layer: str, after: int, up_to: float) -> list[BatchFile]:
    # a folder is looked at several times a batch, and a follower that is behind leaves thousands of files in it
    found = (name for name in _names(directory) if _has_batch(name, after, up_to))
    parsed = (_parse(directory, name, layer) for name in found)
    return sorted((file for file in parsed if file is not None), key=attrgetter("first", "last", "time"))


def _holds(found: list[BatchFile], before: list[BatchFile]) -> bool:
    """Whether the batches of each file of the listing before are in a file of this one."""
    listed = {(file.first, file.last) for file in found}
    gone = [file for file in before if (file.first, file.last) not in listed]
    return not gone or all((file.first, file.last) in listed for file in standing([*found, *gone]))


def _has_batch(name: str, after: int, up_to: float) -> bool:
    """Whether a file holds such a batch, if it is one of ours: by the end of its name, where the batch ids are."""
    first, _, last = name.rpartition(".")[0].rpartition("_")[2].partition("-")
    return first.isdecimal() and int(first) <= up_to and (not last or last.isdecimal()) and int(last or first) > after


def replace_text(path: Path, text: str, *, flushed: bool = True) -> None:
    """Write a small file, which appears whole or not at all; if it is `flushed`, a power cut does not take it back."""
    partial = path.with_name(f".{path.name}.tmp")
    partial.write_text(text)
    if flushed:
        replace(partial, path)
    else:
        partial.replace(path)


def replace(partial: Path, final: Path) -> None:
    """Give a file that is written its name; then a power cut takes back neither its bytes nor the name."""
    sync(partial)
    partial.replace(final)
    sync(final.parent)


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def standing(files: Iterable[BatchFile]) -> list[BatchFile]:
    """Return the files that hold each batch once, oldest first, without any that a compacted file covers.

    From when a compacted file appears until the last file that it replaces is deleted, both are there.
    """
    kept: list[BatchFile] = []
    for file in sorted(files, key=lambda f: (f.first, -f.last, not f.is_compacted)):
        if not (kept and kept[-1].covers(file)):
            kept.append(file)
    return kept
