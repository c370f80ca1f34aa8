"""When the event time goes on without a record, and how far (`[event_time] idle`).

The clock of a query that follows silver goes to the newest event time that silver has, and as much further as silver
had no new record: up to the moment when bronze last looked and had read all that the topic had. So it does not go on
while the broker is away, nor while a layer is behind, and never ahead of our clock. The next step is due when it is
`idle` ahead of the newest record, or of the step before. What is answered is in the query's offset, so a batch that
runs again takes the same step.

All of it is in the files, and in what the running service says of itself (storage/service_status.py): a restart goes on
from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from stream_app.errors import StreamAppError
from stream_app.feeds.footers import newest_of
from stream_app.storage import service_status
from stream_app.storage.batch_files import BatchFile, batch_files, standing
from stream_app.storage.checkpoint import Checkpoint
from stream_app.storage.offsets import in_layer


@dataclass(frozen=True)
class IdleOptions:
    """What has to be known of the feed; times are in microseconds."""

    after: int
    event_time: str
    """The column of silver."""
    root: Path
    bronze: str
    """The name of its query."""
    bronze_files: tuple[Path, str]
    """The folder, and the prefix of its files."""
    silver: Path
    """The checkpoint of the query."""


@dataclass
class IdleClock:
    """The clock of one query that follows silver, whose files are in that folder with that prefix."""

    options: IdleOptions
    folder: Path
    prefix: str
    _asked: float = field(default=0.0, init=False)
    """The moment of bronze's that was judged last."""
    _seen: tuple[int, int] | None = field(default=None, init=False)
    """Up to which batch of silver the newest event time is known, and that."""

    def goes_to(self, batch: int, went: int) -> int:
        """Return the time to which the clock of a query goes that has taken silver up to that batch; 0 if nowhere.

        It `went` to that time before without a record.
        """
        # before the files: all that it tells of is in them
        told = service_status.read(self.options.root)["flows"].get(self.options.bronze, {}).get("read_all_at", 0.0)
        if told <= self._asked:
            return 0
        try:
            if self._has_more(batch):
                return 0
            self._asked = told
            return self._at(int(told * 1_000_000), batch, went)
        except (OSError, StreamAppError):  # retention took a file, or a checkpoint is damaged, which others tell
            return 0

    def _at(self, moment: int, batch: int, went: int) -> int:
        files = standing(batch_files(self.folder, self.prefix, up_to=batch))
        if not files:
            return 0
        newest = self._newest(files)
        if newest is None:
            return 0
        clock = min(moment, newest + moment - _made_by(files[-1]))
        return clock if clock - max(newest, went) >= self.options.after else 0

    def _has_more(self, batch: int) -> bool:
        """Whether silver has not taken all of bronze, or has rows behind that batch; bronze is looked at first."""
        bronze = batch_files(*self.options.bronze_files)
        committed = Checkpoint(self.options.silver).last_committed()
        taken = in_layer(committed.end).batch if committed else -1
        return bool(bronze and bronze[-1].last > taken) or bool(batch_files(self.folder, self.prefix, batch))

    def _newest(self, files: list[BatchFile]) -> int | None:
        """Return the newest event time in the files by their statistics; each file is looked at once."""
        after, newest = self._seen or (-1, None)
        for file in files:
            if file.last > after:
                own = newest_of(pq.read_metadata(file.path), self.options.event_time)
                newest = own if newest is None else max(newest, newest if own is None else own)
        if newest is not None:
            self._seen = files[-1].last, newest
        return newest


def _made_by(file: BatchFile) -> int:
    """When the newest batch in a file was made, or later: the name of a merged one tells of its first batch."""
    merged = file.path.stat().st_mtime_ns // 1000 if file.is_compacted else 0
    return max(read_by(file), merged)


def read_by(file: BatchFile) -> int:
    """When all of a batch's records had come, by the file's name: a record that is dated later moves no clock."""
    return (int(file.time.timestamp()) + 1) * 1_000_000  # it is of whole seconds
