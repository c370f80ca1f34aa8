"""How many records were in silver in time: within two triggers of their Kafka timestamp."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream_app.feeds.footers import statistics_of
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.sinks.report import IN_TIME, TAKEN

_TRIGGERS = 2
_COLUMN = "kafka_ts"


class Promptness:
    """Counts the records of silver's batches when these have just become visible."""

    def __init__(self, trigger_seconds: float) -> None:
        """Count nothing with 0, as in a drain: nobody waits for its records."""
        self._bound = _TRIGGERS * trigger_seconds
        self._began: dict[Flow, datetime] = {}

    def counters(self, flow: Flow, batch: Batch) -> Mapping[str, int]:
        """Return how many records of the topic a batch has taken, and how many of them were in time.

        It is nothing for flows other than silver. History from before bronze's first batch does not count: nobody
        could have been quicker. What waited while the service was away does.
        """
        if not (self._bound and flow.is_own and flow.kind.drops_repeats and flow.upstream and batch.inputs):
            return {}
        if flow not in self._began:
            self._began[flow] = min(file.time for file in (*flow.upstream.files(), *batch.inputs))
        began, due = self._began[flow].timestamp(), time.time() - self._bound
        taken = in_time = 0
        for file in batch.inputs:
            with suppress(OSError, pa.ArrowInvalid):  # retention took it, or its reader tells of the damage
                rows, before, late = _counted(file.path, began, due)
                taken, in_time = taken + rows - before, in_time + rows - max(before, late)
        return {TAKEN: taken, IN_TIME: in_time}


def _counted(path: Path, *moments: float) -> Sequence[int]:
    """Return how many records a file of bronze has, and how many of them are older than each of those moments.

    Moments are in seconds since the epoch. Most often the footer tells, since even the oldest record is younger.
    """
    with pq.ParquetFile(path) as file:
        groups = range(file.num_row_groups)
        older = (sum(_older(file, group, int(moment * 1_000_000)) for group in groups) for moment in moments)
        return (file.metadata.num_rows, *older)


def _older(file: pq.ParquetFile, group: int, us: int) -> int:
    """Return how many records of a row group have a Kafka timestamp below that, in microseconds since the epoch."""
    found = file.metadata.row_group(group)
    statistics = statistics_of(file.metadata, _COLUMN)[group]
    if statistics is not None and statistics.has_min_max:  # raw: no datetime holds every timestamp
        if statistics.min_raw >= us:
            return 0
        if statistics.max_raw < us:
            return int(found.num_rows)
    times = file.read_row_group(group, columns=[_COLUMN], use_threads=False)[_COLUMN].cast(pa.int64())
    return int(pc.sum(pc.less(times, us)).as_py() or 0)
