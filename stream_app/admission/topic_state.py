"""Whether the topic still holds what bronze reads next: by its offsets, its log's history and its open transactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stream_app.admission import topic_epochs
from stream_app.admission.losses import loss
from stream_app.admission.verdict import Code, Finding, Wait
from stream_app.flows.flow import Flow
from stream_app.kafka.broker import Broker
from stream_app.kafka.client import group
from stream_app.kafka.topic import Topic
from stream_app.storage.checkpoint import PlannedBatch
from stream_app.storage.offsets import by_partition


def inspect(flow: Flow, topic: Topic, broker: Broker, *, fail_on_data_loss: bool) -> Iterator[Finding]:
    """Yield what keeps bronze from going on where its checkpoint ends."""
    planned = flow.checkpoint.last_planned()
    if planned is None:
        return
    batch_id = _next_read(flow, planned)
    starts, ends = by_partition(flow.start(batch_id)), by_partition(planned.end)
    asked = topic_epochs.to_ask(topic.name, starts, topic_epochs.before(flow, batch_id))
    cuts = sorted(broker.log_cuts(group(flow.feed.name), asked).items())
    if problems := [topic_epochs.problem(topic.name, p, starts[p], at) for p, at in cuts]:
        yield loss(flow, Code.LOG_CUT, "; ".join(problems), fail_on_data_loss=fail_on_data_loss)
    earliest, end = broker.earliest_offsets(topic), broker.end_offsets(topic)
    # a batch may be planned to end before its start: when the topic had lost its end, which is another one by now
    gaps = [
        f"partition {p}: read up to {at}, next to {to}, the topic holds {earliest[p]} to {end[p]}"
        for p, to in ends.items()
        if p in end and not earliest[p] <= (at := starts.get(p, earliest[p])) <= to <= end[p]
    ]
    if gaps:
        problem = f"topic {topic.name} no longer holds what {flow.name} would read next ({'; '.join(gaps)})"
        yield loss(flow, Code.OFFSETS_LOST, problem, fail_on_data_loss=fail_on_data_loss)
    yield from _open_transactions(flow, topic, ends, end, broker.stable_offsets(topic))


def _open_transactions(
    flow: Flow, topic: Topic, read: Mapping[int, int], end: Mapping[int, int], stable: Mapping[int, int]
) -> Iterator[Wait]:
    """Yield where bronze was read past a transaction that is open, as by read_uncommitted.

    A batch that was planned to the end of what is decided would end before it begins.
    """
    held = [
        f"partition {p} was read to offset {at}, by read_uncommitted, and can be to {stable[p]}"
        for p, at in read.items()
        if p in stable and stable[p] < at <= end[p]
    ]
    if held:
        yield Wait(flow.name, f"topic {topic.name}: a transaction is open ({'; '.join(held)}); waits for its end")


def _next_read(flow: Flow, planned: PlannedBatch) -> int:
    """Return the batch of bronze that reads the topic next: the planned one, unless it has."""
    is_read = planned == flow.checkpoint.last_committed() or flow.files_of(planned.batch_id)
    return planned.batch_id + 1 if is_read else planned.batch_id
