"""A table's folder in an object store, by obstore: the same client in Rust as delta-rs, with the same options.

An object appears whole, or not at all, and stays. Each is put by one request, never by a multipart upload, so nothing
is left of one that died. What is made by several steps waits on the disk, in the sink's staging folder. Names are of
one attempt alone, so a put needs no condition; the commits of delta-rs have theirs.
"""

from __future__ import annotations

import mmap
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.storage.opened import Opened
from stream_app.storage.tables.place import Stored
from stream_app.storage.tables.store_errors import told
from stream_app.storage.tables.store_probe import probe

_CLIENT = ("allow_http", "connect_timeout", "timeout")
"""Options that are of the connection. delta-rs takes them with the others."""
_CONNECT_SECONDS, _ANSWER_SECONDS, _PUT_SECONDS = 5, 60, 600
_RETRIES, _RETRY_SECONDS = 10, 30
_LEFT_SECONDS = 3600.0
_READ_AHEAD, _FOOTER = 1 << 20, 64 << 10


@dataclass(frozen=True)
class InStore:
    """A prefix of a bucket (storage/tables/place.py has what is promised). Its text holds no secret."""

    location: str
    """As s3://bucket/prefix."""
    given: tuple[tuple[str, str], ...] = field(repr=False)
    """Endpoint, region and credentials; what is not given is looked for as the store's own tools do."""
    hidden: tuple[str, ...] = field(repr=False)
    """Those of the values that are never shown."""
    spool: Path
    """The folder where a file waits that is not whole."""
    named_by: str = "DELTA_PATH"
    """The setting or the key that chose it, for errors."""

    @property
    def options(self) -> Mapping[str, str]:
        """What was given, and how long to wait."""
        return {
            **dict(self.given),
            "connect_timeout": f"{_CONNECT_SECONDS}s",
            "timeout": f"{_ANSWER_SECONDS}s",
            "max_retries": str(_RETRIES),
            "retry_timeout": f"{_RETRY_SECONDS}s",
        }

    def told(self) -> AbstractContextManager[None]:
        """Tell of bucket and key."""
        return told(self.named_by, self.location, self.hidden)

    def mend(self) -> None:
        """Empty the staging folder, but for what is young: a command may run beside the service."""
        for path in self.spool.glob("*.parquet"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _LEFT_SECONDS:
                    path.unlink()

    def probe(self) -> None:
        """Have eight threads create one key, eight times over."""
        with self.told():
            probe(f"{self.named_by}: {self.location}", _client(self, _ANSWER_SECONDS))

    def write(self, path: str, fill: Callable[[Path], object]) -> Stored:
        """Have the file written in the staging folder, and put it. What comes of a failure is left to `vacuum`."""
        with self._spooled(path) as spooled:
            fill(spooled)
            self._put(path, spooled)
            return Stored(spooled.stat().st_size, pq.read_metadata(spooled))

    def abandon(self, paths: Iterable[str]) -> None:
        """Leave them: a commit whose answer was lost may name them yet. What is named by none, `vacuum` deletes."""

    def settle(self, sizes: Mapping[str, int]) -> None:
        """Do nothing: what the store has acknowledged is there."""

    def size(self, path: str) -> int | None:
        """Return it as the store has it."""
        with suppress(FileNotFoundError), self.told():
            return int(self.store.head(path)["size"])
        return None

    def look(self, path: str) -> Stored:
        """Read the end of the file, where its footer is."""
        with self.told():
            size = int(self.store.head(path)["size"])
            end = self._end(path, size, _FOOTER)
            if (footer := int.from_bytes(end[-8:-4], "little") + 8) > len(end):
                end = self._end(path, size, footer)
        return Stored(size, pq.read_metadata(pa.BufferReader(end)))

    @contextmanager
    def fetched(self, paths: Sequence[str]) -> Iterator[list[Path]]:
        """Yield copies in the staging folder, which go with the block."""
        copies = list[Path]()
        try:
            for path in paths:
                copies.append(self._spool(path))
                with self.told(), copies[-1].open("wb") as copy:
                    for piece in self.store.get(path).stream(min_chunk_size=_READ_AHEAD):
                        copy.write(piece)
            yield copies
        finally:
            for copy_path in copies:
                copy_path.unlink(missing_ok=True)

    def foreign(self) -> str | None:
        """Return the first that is listed."""
        with self.told():
            for page in self.store.list():
                for found in page:
                    if found["path"][0] not in "._":
                        return f"{self.location}/{found['path']}"
        return None

    def source(self, path: str, opened: Opened) -> Path | str:  # noqa: ARG002 - nothing can be held open
        """Return the URL."""
        return f"{self.location}/{path}"

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Have it read by ranges, through fsspec: DuckDB's own reader is an extension, which is not in its wheel."""
        from obstore import fsspec  # noqa: PLC0415 - it takes long to import

        scheme, reader = urlsplit(self.location).scheme, cast("Any", fsspec.FsspecStore)
        if scheme not in connection.list_filesystems():
            with suppress(duckdb.InvalidInputException):  # another cursor was faster
                connection.register_filesystem(reader(scheme, **self._settings(_ANSWER_SECONDS)))

    @property
    def store(self) -> Any:
        """The client. Its keys are from the table's folder on."""
        return _client(self, _PUT_SECONDS)

    def _end(self, path: str, size: int, length: int) -> bytes:
        return bytes(self.store.get_range(path, start=max(0, size - length), end=size))

    def _put(self, path: str, source: Path) -> None:
        with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, self.told():
            self.store.put(path, content, use_multipart=False)  # mapped, so never in memory as a whole

    def _settings(self, seconds: int) -> dict[str, Any]:
        """Return what a client of obstore takes, with how long an answer may take."""
        client = {"connect_timeout": timedelta(seconds=_CONNECT_SECONDS), "timeout": timedelta(seconds=seconds)}
        given = dict(self.given)
        return {
            "config": {key: value for key, value in given.items() if key not in _CLIENT},
            "client_options": {**client, "allow_http": given.get("allow_http") == "true"},
            "retry_config": {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
        }

    @contextmanager
    def _spooled(self, path: str) -> Iterator[Path]:
        spooled = self._spool(path)
        try:
            yield spooled
        finally:
            spooled.unlink(missing_ok=True)

    def _spool(self, path: str) -> Path:
        self.spool.mkdir(parents=True, exist_ok=True)
        return self.spool / f"{secrets.token_hex(6)}-{path.rpartition('/')[2]}"


@lru_cache(maxsize=256)  # each holds connections
def _client(place: InStore, seconds: int) -> Any:
    from obstore.store import from_url  # noqa: PLC0415 - most services have no store

    return from_url(place.location, **cast("Any", place._settings(seconds)))
