"""A run of keys on disk: two arrays of NumPy in one file, the keys in order and the clock of each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from stream_app.storage.batch_files import replace
from stream_app.storage.checkpoint import damaged

PREFIX = "seen"
"""What the names of such files begin with."""
Keys = np.ndarray[tuple[int], np.dtype[np.bytes_]]
Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


def save(path: Path, keys: Keys, clocks: Numbers) -> None:
    """Write the file, by one rename; a power cut does not take it back."""
    partial = path.with_name(f"_{path.name}")
    with partial.open("wb") as opened:
        np.save(opened, keys)
        np.save(opened, clocks)
    replace(partial, path)


def load(path: Path) -> tuple[Keys, Numbers]:
    """Return the keys and their clocks. Raises DamagedError where the file is not what was written."""
    try:
        with path.open("rb") as opened:
            return np.load(opened), np.load(opened)
    except (ValueError, EOFError):
        raise damaged(path) from None


def is_whole(path: Path) -> bool:
    """Return whether the file holds what its headers say, without reading the arrays."""
    try:
        with path.open("rb") as opened:
            lengths = [_skipped(opened) for _ in range(2)]
            return lengths[0] == lengths[1] and opened.tell() == path.stat().st_size
    except (ValueError, EOFError):
        return False


def _skipped(opened: BinaryIO) -> int:
    """Go behind the next array, and return its length."""
    npy.read_magic(opened)
    (length,), _, dtype = npy.read_array_header_1_0(opened)
    opened.seek(length * dtype.itemsize, os.SEEK_CUR)
    return int(length)
