"""When each batch of bronze was planned, as bronze's own files say for ever.

A Kafka timestamp is the client's, and may be any. The time of the plan is the service's own, from the checkpoint, and
no record of a batch came after it. So `future` is judged against the earlier of the two (contract.py).

A file of bronze pins it in its metadata: `planned` are spans of rows (spans.py), each with milliseconds. A merged file
has one for each of its batches that holds a record dated after the plan. Rows of all others need no bound: theirs is
null, and a file without such records has no list. Neither have files of older versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.feeds.footers import newest_of
from stream_app.storage import spans

UNBOUNDED = 2**63 - 1
"""The planned time, in microseconds, of a record that needs none."""

_KEY = b"planned"
_ARROW = b"ARROW:schema"  # pyarrow's own, which it writes itself


@dataclass(frozen=True)
class Planned:
    """The planned times of a file's rows."""

    _ends: np.ndarray
    _times: np.ndarray

    @classmethod
    def of(cls, metadata: pq.FileMetaData) -> Planned:
        """Of the file with that metadata."""
        return cls._of(_spans(metadata))

    @classmethod
    def said(cls, says: Mapping[bytes, bytes], rows: int) -> Planned:
        """Of a file of so many rows that says that of itself."""
        return cls._of(spans.said(says, rows, _KEY, None))

    @classmethod
    def _of(cls, own: Sequence[spans.Span]) -> Planned:
        # the last one is for rows behind the file's end
        times = [*(UNBOUNDED if ms is None else ms * 1000 for _, ms in own), UNBOUNDED]
        return cls(spans.ends(own), np.array(times, np.int64))

    def of_rows(self, first: int, number: int) -> pa.Array:
        """Of so many rows from row `first` on, in microseconds since the epoch."""
        return pa.array(self._times[spans.number_of(self._ends, first, number)])

    def spans(self) -> Iterator[tuple[int, int, int]]:
        """Yield each span's first row, the row after its last, and its planned time.

        Times are in microseconds since the epoch.
        """
        ends = self._ends.tolist()
        return zip([0, *ends], ends, self._times.tolist(), strict=False)


def pinned(time_ms: int) -> dict[bytes, bytes]:
    """Return what the files of a batch say of the time that it was planned at.

    `time_ms` is in milliseconds since the epoch.
    """
    return spans.of_all_rows(_KEY, time_ms)


def merged(parts: Sequence[pq.FileMetaData]) -> Mapping[bytes, bytes]:
    """Return what a file says of itself that holds the rows of those files.

    That is what the first one says, and all planned times.
    """
    says = {key: value for key, value in (parts[0].metadata or {}).items() if key not in {_KEY, _ARROW}}
    own = [span for metadata in parts for span in _needed(metadata)]
    return {**says, **spans.of_spans(_KEY, own)} if any(time is not None for _, time in own) else says


def newest_kafka_ts(metadata: pq.FileMetaData) -> int | None:
    """Return the newest kafka_ts by a file's statistics, in microseconds since the epoch; None where they do not tell.

    It is an integer: no datetime holds the times that older versions kept of a client's clock.
    """
    return newest_of(metadata, "kafka_ts")


def _spans(metadata: pq.FileMetaData) -> list[spans.Span]:
    return spans.read(metadata, _KEY, None)


def _needed(metadata: pq.FileMetaData) -> list[spans.Span]:
    """Return the spans of a file, or one without a bound where no record is dated after its plan."""
    own = _spans(metadata)
    newest = newest_kafka_ts(metadata)
    if newest is not None and all(time is None or newest <= time * 1000 for _, time in own):
        return [(metadata.num_rows, None)]
    return own
