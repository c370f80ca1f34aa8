"""What open transactions hold back: how many records each partition has after its last stable offset."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial

from stream_app.errors import StreamAppError
from stream_app.flows.flow import Flow
from stream_app.kafka.broker import Broker
from stream_app.observe.monitor import Monitor
from stream_app.observe.regularly import regularly

_INTERVAL_SECONDS = 10.0
_END_SECONDS = 1.0


def watched(flows: Sequence[Flow], broker: Broker, monitor: Monitor) -> AbstractContextManager[None]:
    """Ask the broker every few seconds, in a thread of its own: two requests for each topic."""
    look = partial(_look, [flow for flow in flows if flow.upstream is None], broker, monitor)
    return regularly(look, _INTERVAL_SECONDS, "held", patience=_END_SECONDS)


def _look(bronzes: Sequence[Flow], broker: Broker, monitor: Monitor) -> None:
    for bronze in bronzes:
        _look_at(bronze, broker, monitor)


def _look_at(bronze: Flow, broker: Broker, monitor: Monitor) -> None:
    try:
        topic = broker.topic(bronze.feed.topic)
        # in this order: what comes in between counts as decided
        ends, stable = broker.end_offsets(topic), broker.stable_offsets(topic)
    except StreamAppError:  # the query itself tells of a broker that is away
        return
    monitor[bronze].held = {str(p): end - stable[p] for p, end in ends.items() if end > stable.get(p, end)}
