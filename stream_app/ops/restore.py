"""A lost checkpoint is made again from its table: each version says its query, its batch and its offsets.

The query goes on behind the newest batch that the table has. A query's state could not be made again, so this is for
queries without state: rows of bronze, quarantine and silver, and final windows and sessions.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from stream_app.admission import ownership
from stream_app.admission.verdict import reset_command
from stream_app.errors import ConfigError
from stream_app.flows.flow import Flow
from stream_app.ops.tables import opened
from stream_app.storage.batch_files import replace_text
from stream_app.storage.lock import LOOK_SECONDS, sole_user
from stream_app.storage.tables.table import Version


@dataclass(frozen=True)
class RestorePlan:
    """The checkpoint that a table makes again."""

    flow: Flow
    query_id: str
    version: int
    batch: int
    time_ms: int
    watermark_ms: int
    start: str
    end: str
    """How far its newest batch has read, as JSON."""
    has_checkpoint: bool
    """Whether there is one, which goes."""


@contextmanager
def planned(flows: Sequence[Flow], sink: str) -> Iterator[tuple[RestorePlan, ...]]:
    """Yield what would be restored of the sinks of that name; no service can start before the block ends.

    Raises ConfigError, a line that says why, where nothing can be restored, and while a service runs.
    """
    if not sink:
        raise ConfigError("--sink: name the table whose checkpoint is to be made again")
    with sole_user(flows[0].root, LOOK_SECONDS):
        yield tuple(_plan(flow) for flow in flows)


def apply(plan: RestorePlan) -> None:
    """Write the checkpoint, and who owns the output. It may be repeated after it was cut short.

    The query's id goes first and comes last: without it there is no checkpoint to go on from, and the start says so.
    """
    layout, flow = plan.flow.layout, plan.flow
    layout.output.mkdir(parents=True, exist_ok=True)
    layout.metadata.unlink(missing_ok=True)
    shutil.rmtree(layout.checkpoint, ignore_errors=True)
    for folder in (layout.offsets, layout.commits):
        folder.mkdir(parents=True)
    meta = {"batchWatermarkMs": plan.watermark_ms, "batchTimestampMs": plan.time_ms, "conf": {}}
    # Spark asks for the batch before the newest one, too
    for batch, offset in ((plan.batch - 1, plan.start), (plan.batch, plan.end)):
        if batch >= 0:
            replace_text(layout.offsets / str(batch), f"v1\n{json.dumps(meta)}\n{offset}")
            replace_text(layout.commits / str(batch), 'v1\n{"nextBatchWatermarkMs":0}')
    owner = ownership.owner(flow, None, plan.query_id, _upstream_id(flow))
    replace_text(layout.owner, json.dumps(owner, indent=1))
    replace_text(layout.metadata, json.dumps({"id": plan.query_id}))


def _plan(flow: Flow) -> RestorePlan:
    found = next(opened([flow]), None)
    if found is None:
        raise ConfigError(f"{flow.name}: there is no table, so there is nothing to restore from")
    if flow.aggregate:
        problem = f"{flow.name} has state beside its table, which nothing can restore"
        raise ConfigError(f"{problem}; make it again with: {reset_command(flow)}")
    table, query_id = found[2], found[2].owner.get("query", "")
    if not query_id:
        raise ConfigError(f"{table.location} was emptied by a reset, so there is nothing to restore from")
    newest = next((one for one in table.versions() if one.query_id == query_id and one.batch is not None), None)
    if newest is None or newest.batch is None:
        problem = f"{table.location}: the log has no batch of {flow.name} left to restore from"
        raise ConfigError(f"{problem}; make it again with: {reset_command(flow)}")
    if newest.says.get("upstream", "") != (_upstream_id(flow) or ""):
        assert flow.upstream  # noqa: S101 - a sink follows a dataset
        problem = f"{flow.upstream.name} was made again since the table took its batches, which are others now"
        raise ConfigError(f"{problem}; make it again with: {reset_command(flow)}")
    planned_batch = flow.checkpoint.last_planned()
    if flow.checkpoint.query_id() == query_id and planned_batch and planned_batch.batch_id >= newest.batch:
        raise ConfigError(f"{flow.name} has its checkpoint, up to batch {planned_batch.batch_id}; nothing is lost")
    return _of_version(flow, query_id, newest, has_checkpoint=flow.checkpoint.path.exists())


def _of_version(flow: Flow, query_id: str, version: Version, *, has_checkpoint: bool) -> RestorePlan:
    assert version.batch is not None  # noqa: S101 - the caller has looked
    says = version.says
    times = int(says["time_ms"]), int(says["watermark_ms"])
    number, batch = version.number, version.batch
    return RestorePlan(flow, query_id, number, batch, *times, says["start"], says["end"], has_checkpoint)


def _upstream_id(flow: Flow) -> str | None:
    return flow.upstream.checkpoint.query_id() if flow.upstream else None
