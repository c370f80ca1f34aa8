"""A file of the landing zone in the making."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from confluent_kafka import Message

from stream_app.landing.lines import Writer, encoded
from stream_app.landing.zone import LandedFile, Zone
from stream_app.sources.messages import offset_of
from stream_app.storage.batch_files import sync

# What a file holds at most of text: one task of the ETL reads a file.
_MOST_BYTES = 256 << 20


class Staged:
    """Records of one partition, in order, that no reader sees yet. The file is made with the first of them."""

    def __init__(self, zone: Zone, landed_ms: int, partition: int) -> None:
        self.records = 0
        self.partition = partition
        self._zone, self._landed_ms = zone, landed_ms
        self._first = self._last = -1
        self._size = 0
        self._path: Path = zone.staging / f"p{partition}.jsonl.zst"
        self._writer: Writer | None = None

    @property
    def is_full(self) -> bool:
        """Whether what follows is better kept in another file."""
        return self._size >= _MOST_BYTES

    def write(self, messages: Sequence[Message]) -> None:
        """Append records."""
        if self._writer is None:
            self._path.parent.mkdir(exist_ok=True)
            self._writer, self._first = Writer(self._path), offset_of(messages[0])
        lines = encoded(messages, self._landed_ms)
        self._writer.write(lines)
        self.records, self._size = self.records + len(messages), self._size + len(lines)
        self._last = offset_of(messages[-1])

    def finish(self) -> LandedFile | None:
        """Flush the file to the disk; return what it is to be called, or None where there is no record."""
        if self._writer is None:
            return None
        self._writer.close()
        sync(self._path)
        time = datetime.fromtimestamp(self._landed_ms / 1000, UTC)
        return self._zone.file(time, self.partition, self._first, self._last)

    def rename(self, file: LandedFile) -> None:
        """Give a finished file its name, which a power cut does not take back."""
        made = [folder for folder in file.path.parents[:2] if not folder.exists()]
        file.path.parent.mkdir(parents=True, exist_ok=True)
        self._path.rename(file.path)
        for folder in (file.path.parent, *(one.parent for one in made)):
            sync(folder)
