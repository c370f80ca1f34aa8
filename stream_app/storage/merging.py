"""Which small files are merged into one, so that each row is written a logarithmic number of times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

MOST_MERGED = 12
# A merged file is the smallest piece that a reset reads at once: a batch of some million rows, which must end in time.
_LARGEST_BYTES = 256 << 20

_File = TypeVar("_File")


def bounded(files: Sequence[_File], size: Callable[[_File], int]) -> Iterator[list[_File]]:
    """Yield the files in groups, each of as many bytes as a merged file may have, or of two files."""
    group: list[_File] = []
    total = 0
    for file in files:
        own = size(file)
        if len(group) > 1 and total + own > _LARGEST_BYTES:
            yield group
            group, total = [], 0
        group.append(file)
        total += own
    yield group


def dominated(files: Sequence[_File], size: Callable[[_File], int]) -> list[_File]:
    """Return the newest merged files, each no larger than all after it; none while they are few.

    Each file that is left is larger than all after it, so their number is the logarithm of their size.
    """
    if len(files) <= MOST_MERGED:
        return []
    taken: list[_File] = []
    total = 0
    for file in reversed(files):
        own = size(file)
        if taken and (own > total or total + own > _LARGEST_BYTES):
            break
        taken.insert(0, file)
        total += own
    return taken
