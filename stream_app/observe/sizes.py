"""How large a folder is: looked at now and then, since a look at every file of it is not for each scrape."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_KEPT_SECONDS = 60.0


@dataclass(frozen=True)
class Size:
    """What all files below a folder come to."""

    files: int
    bytes: int


class Sizes:
    """The sizes of folders, each at most a minute old."""

    def __init__(self) -> None:
        self._found: dict[Path, tuple[float, Size]] = {}

    def of(self, folder: Path) -> Size:
        """Return the size of a folder; of one that is not there, nothing."""
        at, size = self._found.get(folder, (0.0, Size(0, 0)))
        if not at or time.monotonic() - at > _KEPT_SECONDS:
            found = [*_sizes(str(folder))]
            size = Size(len(found), sum(found))
            self._found[folder] = time.monotonic(), size
        return size


def _sizes(folder: str) -> Iterator[int]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:  # its owner deletes what it no longer needs
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(entry.path)
            else:
                with suppress(FileNotFoundError):
                    yield entry.stat(follow_symlinks=False).st_size
