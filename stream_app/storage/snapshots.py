"""Snapshots of reference data: files that never change, each named by the hash of what it holds.

A snapshot is an Arrow file, which tasks map into memory, so that all of them share one copy. Its rows are in the order
of `_index`: of a key that is an integer that itself, else eight bytes of its BLAKE2b. So a batch of keys is looked up
by binary search. A row that is found is compared by its key, which makes the answer exact.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stream_app.errors import StreamAppError
from stream_app.storage.batch_files import replace

KEY = "_key"
"""The column of a snapshot with the keys."""
_INDEX, _SALT = "_index", b"salt"
# How many a process keeps open: a merged file of bronze may name several.
_OPEN = 4
_HASH_LETTERS = 32
_NAME = re.compile(rf"(?P<name>[a-z][a-z0-9_]*)_(?P<hash>[0-9a-f]{{{_HASH_LETTERS}}})\.arrow")
_IN_THE_MAKING = ".*.arrow.*.tmp"
_Index = npt.NDArray[np.int64]


class Snapshot:
    """The rows of a lookup, found by binary search."""

    def __init__(self, rows: pa.Table) -> None:
        """Of rows as `sorted_by_key` has them."""
        self.rows = rows
        self._salt = int((rows.schema.metadata or {}).get(_SALT, b"0"))
        self._index: _Index = rows[_INDEX].combine_chunks().to_numpy()

    def find(self, keys: pa.Array) -> pa.Array:
        """Return the number of each key's row, as int64; null where there is none, and of a key that is null."""
        if not len(self._index):
            return pa.nulls(len(keys), pa.int64())
        wanted = _index_of(keys, self._salt)
        at = pa.array(np.minimum(np.searchsorted(self._index, wanted), len(self._index) - 1))
        found = pc.equal(self.rows[KEY].take(at), keys).combine_chunks()
        return pc.if_else(found.fill_null(False), at, pa.nulls(len(keys), pa.int64()))


class PlainSnapshot(Snapshot):
    """The same by a dictionary, which is how the contract's definition finds a key."""

    def __init__(self, rows: pa.Table) -> None:
        """Of the same rows."""
        super().__init__(rows)
        self._places = {key: place for place, key in enumerate(rows[KEY].to_pylist())}

    def find(self, keys: pa.Array) -> pa.Array:
        """Return the same."""
        return pa.array([None if key is None else self._places.get(key) for key in keys.to_pylist()], pa.int64())


Opener = Callable[[pa.Table], Snapshot]
"""What makes a snapshot of its rows."""


def sorted_by_key(rows: pa.Table) -> pa.Table:
    """Return the rows as a snapshot has them. They have a column KEY, without nulls, and each key once."""
    keys = rows[KEY].combine_chunks()
    for salt in count():  # two of a million keys have one index once in forty million times
        index = _index_of(keys, salt)
        if len(np.unique(index)) == len(index):
            break
    order = np.argsort(index, kind="stable")
    found = rows.append_column(_INDEX, pa.array(index)).take(pa.array(order)).combine_chunks()
    return found.replace_schema_metadata({_SALT: str(salt).encode()})


def save(folder: Path, name: str, rows: pa.Table) -> str:
    """Keep rows that are `sorted_by_key` as a snapshot of that lookup, if it is not there; return its hash.

    A power cut does not take it back. One that is there counts as taken now.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    content = sink.getvalue()
    found = _hash(content)
    path = _path(folder, name, found)
    if path.exists():
        os.utime(path)
        return found
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_bytes(content)
        replace(partial, path)
    except BaseException:  # a disk that is full must not be filled by attempts
        partial.unlink(missing_ok=True)
        raise
    return found


def opened(folder: Path, name: str, of: str, kind: Opener = Snapshot) -> Snapshot:
    """Return the snapshot of that hash, and remember it. Raises StreamAppError where it is missing or damaged."""
    return _opened(_path(folder, name, of), of, kind)


@lru_cache(maxsize=_OPEN)
def _opened(path: Path, of: str, kind: Opener) -> Snapshot:
    try:
        mapped = pa.memory_map(str(path))
    except FileNotFoundError:
        problem = f"{path}: the snapshot of reference data is missing that batches were judged by"
        raise StreamAppError(f"{problem}; put it back from a copy, or reset bronze") from None
    content = mapped.read_buffer()
    if _hash(content) != of:
        problem = f"{path}: the snapshot of reference data is not what was written"
        raise StreamAppError(f"{problem}; put it back from a copy, or reset bronze")
    return kind(pa.ipc.open_file(content).read_all())


def taken(folder: Path, name: str, of: str) -> tuple[int, float] | None:
    """Return how many rows a snapshot has, and when it was last taken, in seconds since the epoch; None if missing."""
    path = _path(folder, name, of)
    try:
        with pa.memory_map(str(path)) as mapped:
            return pa.ipc.open_file(mapped).read_all().num_rows, path.stat().st_mtime
    except (FileNotFoundError, pa.ArrowInvalid):
        return None


def names(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield each snapshot of a folder, with its hash."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := _NAME.fullmatch(path.name):
            yield path, match["hash"]


def delete_others(folder: Path, named: Collection[str], before: float) -> list[Path]:
    """Delete the snapshots that are none of those hashes and were taken before a time; return them.

    What died in the making goes, too, if it is as old.
    """
    gone = [path for path, of in names(folder) if of not in named and path.stat().st_mtime < before]
    died = [path for path in folder.glob(_IN_THE_MAKING) if path.stat().st_mtime < before]
    for path in (*gone, *died):
        path.unlink()
    return gone


def _path(folder: Path, name: str, of: str) -> Path:
    return folder / f"{name}_{of}.arrow"


def _hash(content: pa.Buffer) -> str:
    return hashlib.sha256(content).hexdigest()[:_HASH_LETTERS]


def _index_of(keys: pa.Array, salt: int) -> _Index:
    if pa.types.is_integer(keys.type):
        return np.asarray(keys.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    texts = keys.cast(pa.string()).fill_null("").cast(pa.binary()).to_pylist()
    by = salt.to_bytes(8, "big")
    digests = b"".join(hashlib.blake2b(text, digest_size=8, salt=by).digest() for text in texts)
    return np.frombuffer(digests, np.int64)
