"""COMMIT_GROUP_OFFSETS=1: what each sink has consumed, mirrored to a consumer group `stream-app.<feed>.<sink>`.

For lag tools to see, a few seconds behind and never read back: Spark's checkpoints alone say where a sink goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from stream_app import logs
from stream_app.errors import StreamAppError
from stream_app.flows.flow import Flow
from stream_app.kafka.broker import Broker
from stream_app.observe.regularly import regularly
from stream_app.storage.offsets import by_partition, in_layer

_INTERVAL_SECONDS = 5.0


def mirrored(flows: Sequence[Flow], broker: Broker) -> AbstractContextManager[None]:
    """Mirror every few seconds, in a thread of its own, and once more at the end."""
    told: dict[str, dict[int, int]] = {}

    def mirror() -> None:
        for flow in flows:
            _mirror(flow, broker, told)

    return regularly(mirror, _INTERVAL_SECONDS, "groups", once_more=True, patience=_INTERVAL_SECONDS)


def consumed(flow: Flow) -> dict[int, int] | None:
    """Return the next offset of each partition that the flow has not consumed.

    It is None before the first commit, and where the logs no longer tell.
    """
    committed = flow.checkpoint.last_committed()
    while committed is not None and flow.upstream is not None:
        flow = flow.upstream
        try:
            committed = flow.checkpoint.planned(in_layer(committed.end).batch)
        except FileNotFoundError:  # nothing taken yet, or so far behind that the entry was purged
            return None
    return dict(by_partition(committed.end)) if committed else None


def _mirror(flow: Flow, broker: Broker, told: dict[str, dict[int, int]]) -> None:
    try:
        offsets = consumed(flow)
        if offsets is None or told.get(flow.name) == offsets:
            return
        broker.set_group_offsets(f"stream-app.{flow.name}", flow.feed.topic, offsets)
        told[flow.name] = offsets
    except (StreamAppError, OSError) as error:
        logs.warning(f"{flow.name} group offsets were not mirrored", error=error)
