"""How complete an output is: the time up to which windows are final, and what has been taken of Kafka's records.

Both come from the checkpoints and the files alone, so they are the same beside a running service and after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream_app.contract.times import EPOCH
from stream_app.errors import StreamAppError
from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import BatchFile
from stream_app.storage.offsets import Offset, by_partition, in_layer


def complete_up_to(flow: Flow) -> datetime | None:
    """Return the time up to which the flow's windows or sessions are final: all that end by then are in its output.

    It is the watermark of the newest committed batch, in UTC. It is None for other flows, before the first watermark,
    and where the logs no longer tell. Raises StreamAppError for a damaged checkpoint.
    """
    committed = flow.checkpoint.last_committed() if flow.kind.stateful else None
    return final_with(flow, committed.watermark_ms, committed.end) if committed else None


def final_with(flow: Flow, watermark_ms: int, end: Offset) -> datetime | None:
    """Return the same once a batch is in that was planned with that watermark and takes the flow to that offset."""
    if flow.kind.stateful is None:
        return None
    if flow.stateful is None and flow.upstream:  # it follows the dataset's files
        try:
            watermark_ms = flow.upstream.checkpoint.planned(in_layer(end).batch).watermark_ms
        except FileNotFoundError:  # nothing taken yet, or so far behind that the entry was purged
            return None
    return _time(watermark_ms * 1000) if watermark_ms else None


def newest_taken(flow: Flow) -> Mapping[int, datetime]:
    """Return the newest Kafka timestamp, in UTC, that silver has taken of each partition; nothing for other flows.

    It is that of the newest file of bronze with a record of the partition. A partition without one is left out.
    Raises StreamAppError for a damaged checkpoint, OSError or ArrowInvalid for a damaged file.
    """
    if not (flow.is_own and flow.kind.drops_repeats and flow.upstream):
        return {}
    return _newest_up_to(flow.upstream, flow.taken_up_to())


def newest_with(flow: Flow, end: Offset) -> Mapping[int, datetime]:
    """Return the same of what a flow that follows silver holds, once a batch is in that takes it to that offset.

    It is nothing for other flows, and where silver's log no longer tells. Raises as above.
    """
    silver = flow.upstream
    if not (silver and silver.upstream and flow.kind.drops_repeats and not flow.is_own):
        return {}
    try:
        taken = silver.checkpoint.planned(in_layer(end).batch)
    except FileNotFoundError:  # nothing taken yet, or so far behind that the entry was purged
        return {}
    return _newest_up_to(silver.upstream, in_layer(taken.end).batch)


def _newest_up_to(bronze: Flow, batch: int) -> Mapping[int, datetime]:
    read = bronze.checkpoint.last_committed()
    first: Mapping[int, int] = {}
    with suppress(StreamAppError):  # how far back is looked depends on it, not what is found
        first = bronze.checkpoint.first_offsets().partitions
    ends = by_partition(read.end) if read else {}
    wanted = {partition for partition, end in ends.items() if end > first.get(partition, 0)}
    found: dict[int, int] = {}
    for file in reversed(bronze.files(up_to=batch)):
        found = {**_newest(file), **found}
        if wanted <= found.keys():
            break
    return {partition: _time(us) for partition, us in sorted(found.items())}


def _newest(file: BatchFile) -> Mapping[int, int]:
    try:
        return _newest_of(file.path)
    except FileNotFoundError:  # retention merged it a moment ago; the next look finds the merged one
        return {}


@lru_cache(maxsize=10_000)  # a file never changes, and each look begins at the newest
def _newest_of(path: Path) -> Mapping[int, int]:
    """Return the newest kafka_ts of each partition in a file of bronze, in microseconds since the epoch."""
    newest: dict[int, int] = {}
    with pq.ParquetFile(path) as file:
        if not {"partition", "kafka_ts"} <= {*file.schema_arrow.names}:
            return newest  # somebody else's file of such a name: the audit tells of it
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=["partition", "kafka_ts"], use_threads=False)
            times = rows["kafka_ts"].cast(pa.int64())
            for partition in pc.unique(rows["partition"]).to_pylist():
                one = pc.max(times.filter(pc.equal(rows["partition"], partition))).as_py()
                newest[partition] = max(one, newest.get(partition, one))
    return newest


def _time(us: int) -> datetime:
    """Return microseconds since the epoch as a time; older versions kept some that no datetime holds."""
    first, last = (datetime(*day, tzinfo=UTC) for day in ((1, 1, 1), (9999, 12, 31)))
    try:
        return EPOCH + timedelta(microseconds=us)
    except OverflowError:
        return first if us < 0 else last
