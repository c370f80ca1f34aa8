"""When each batch of bronze was planned, as bronze's own files say for ever.

A Kafka timestamp is the client's, and may be any. The time of the plan is the service's own, from the checkpoint, and
no record of a batch came after it. So `future` is judged against the earlier of the two (contract.py).

A file of bronze pins it in its metadata: `planned` is a JSON list of [rows, milliseconds], in the order of the rows. A
merged file has an entry for each of its batches that holds a record dated after the plan. Rows of all others need no
bound: theirs is null, and a file without such records has no list. Neither have files of older versions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

UNBOUNDED = 2**63 - 1
"""The planned time, in microseconds, of a record that needs none."""

_KEY = b"planned"
_ARROW = b"ARROW:schema"  # pyarrow's own, which it writes itself
_Span = tuple[int, int | None]
"""So many rows, and when they were planned."""


@dataclass(frozen=True)
class Planned:
    """The planned times of a file's rows."""

    _ends: np.ndarray
    _times: np.ndarray

    @classmethod
    def of(cls, metadata: pq.FileMetaData) -> Planned:
        """Of the file with that metadata."""
        spans = [*_spans(metadata), (0, None)]  # the last one is for rows behind the file's end
        times = [UNBOUNDED if ms is None else ms * 1000 for _, ms in spans]
        return cls(np.cumsum([rows for rows, _ in spans]), np.array(times, np.int64))

    def of_rows(self, first: int, number: int) -> pa.Array:
        """Of so many rows from row `first` on, in microseconds since the epoch."""
        spans = np.searchsorted(self._ends[:-1], np.arange(first, first + number), side="right")
        return pa.array(self._times[spans])

    def spans(self) -> Iterator[tuple[int, int, int]]:
        """Yield each span's first row, the row after its last, and its planned time.

        Times are in microseconds since the epoch.
        """
        starts = [0, *self._ends[:-1].tolist()]
        return zip(starts[:-1], self._ends[:-1].tolist(), self._times.tolist(), strict=False)


def pinned(time_ms: int) -> dict[bytes, bytes]:
    """Return what the files of a batch say of the time that it was planned at.

    `time_ms` is in milliseconds since the epoch.
    """
    return {_KEY: json.dumps([[None, time_ms]]).encode()}


def merged(parts: Sequence[pq.FileMetaData]) -> Mapping[bytes, bytes]:
    """Return what a file says of itself that holds the rows of those files.

    That is what the first one says, and all planned times.
    """
    says = {key: value for key, value in (parts[0].metadata or {}).items() if key not in {_KEY, _ARROW}}
    spans = [span for metadata in parts for span in _needed(metadata)]
    together = [[sum(rows for rows, _ in own), time] for time, own in groupby(spans, lambda span: span[1])]
    return {**says, _KEY: json.dumps(together).encode()} if any(time is not None for _, time in together) else says


def newest_kafka_ts(metadata: pq.FileMetaData) -> int | None:
    """Return the newest kafka_ts by a file's statistics, in microseconds since the epoch; None where they do not tell.

    It is an integer: no datetime holds the times that older versions kept of a client's clock.
    """
    names = metadata.schema.names
    if "kafka_ts" not in names:
        return None
    column = names.index("kafka_ts")
    found = [metadata.row_group(i).column(column).statistics for i in range(metadata.num_row_groups)]
    newest = [int(one.max_raw) for one in found if one is not None and one.has_min_max]
    return max(newest) if newest and len(newest) == len(found) else None


def _spans(metadata: pq.FileMetaData) -> list[_Span]:
    written = json.loads((metadata.metadata or {}).get(_KEY, b"[[null, null]]"))
    return [(metadata.num_rows if rows is None else rows, time) for rows, time in written]


def _needed(metadata: pq.FileMetaData) -> list[_Span]:
    """Return the spans of a file, or one without a bound where no record is dated after its plan."""
    spans = _spans(metadata)
    newest = newest_kafka_ts(metadata)
    if newest is not None and all(time is None or newest <= time * 1000 for _, time in spans):
        return [(metadata.num_rows, None)]
    return spans
