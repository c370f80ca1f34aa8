"""A follower is never ahead of what it follows, or it would skip what comes next.

It is ahead where the layer before, or silver's ledger, was restored from an older copy without it. Batches of the layer
before that are planned count as read: a follower reads a file that has appeared, and its commit comes later.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.admission.verdict import Code, Refusal, reset_command
from stream_app.flows import chain
from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import REPLAY, batch_files
from stream_app.storage.offsets import LayerOffset, in_layer
from stream_app.storage.planned import newest_kafka_ts


def inspect(flow: Flow) -> Iterator[Refusal]:
    """Yield a refusal where the flow has planned to read batches that the layer before has not planned."""
    upstream = flow.upstream
    if upstream is None:
        return
    has, read = _planned(upstream), _read(flow).batch
    if read > has:
        problem = f"has read {upstream.name} up to batch {read}, which by its checkpoint has come to {has} only"
        yield _refusal(flow, problem)
    if flow.is_own and flow.kind.takes_replayed:
        ledger = max((file.last for file in batch_files(flow.layout.replay, REPLAY)), default=-1)
        if (taken := _read(flow).replay) > ledger:
            problem = f"has read {flow.layout.replay} up to file {taken}, which holds files up to {ledger} only"
            yield _refusal(flow, problem)


def inspect_clock(flow: Flow) -> Iterator[Refusal]:
    """Yield a refusal where the flow has read a record that is newer than any of the batches it has read.

    Then the layer before has written other batches under their ids since. It reads the footer of each file.
    """
    upstream = flow.upstream
    if upstream is None or (read := _read(flow)).clock <= 0 or chain.gone(upstream) >= 0:
        return
    files, clock = upstream.files(up_to=read.batch), read.clock
    if files and all((newest := _newest(file.path)) is not None and newest < clock for file in files):
        problem = f"has read a newer record of {upstream.name} than its batches up to {files[-1].last} hold by now"
        yield _refusal(flow, problem)


def _newest(path: Path) -> int | None:
    try:
        return newest_kafka_ts(pq.read_metadata(path))
    except (OSError, pa.ArrowInvalid):  # whoever reads a damaged file says so
        return None


def _read(flow: Flow) -> LayerOffset:
    """Return how far the newest batch goes that the flow has planned."""
    planned = flow.checkpoint.last_planned()
    return in_layer(planned.end) if planned else LayerOffset()


def _planned(flow: Flow) -> int:
    planned = flow.checkpoint.last_planned()
    return planned.batch_id if planned else -1


def _refusal(flow: Flow, problem: str) -> Refusal:
    command = reset_command(flow)
    sentence = f"{flow.name} {problem}: one of both is from an older copy; put that back, or type: {command}"
    return Refusal(flow.name, Code.UPSTREAM_OLDER, sentence, command)
