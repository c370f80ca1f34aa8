"""What open transactions hold back: how many records each partition has after its last stable offset."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial

from stream_app.errors import StreamAppError
from stream_app.flows.flow import Flow
from stream_app.kafka.broker import Broker
from stream_app.observe.monitor import Decided, Monitor
from stream_app.observe.regularly import regularly

_INTERVAL_SECONDS = 10.0
_END_SECONDS = 1.0


def watched(flows: Sequence[Flow], broker: Broker, monitor: Monitor) -> AbstractContextManager[None]:
    """Ask the broker at once and every few seconds, in a thread of its own: two requests for each topic."""
    bronzes = [flow for flow in flows if flow.upstream is None]
    for bronze in bronzes:
        monitor[bronze].decided = Decided()
    look = partial(_look, bronzes, broker, monitor)
    return regularly(look, _INTERVAL_SECONDS, "held", at_once=True, patience=_END_SECONDS)


def _look(bronzes: Sequence[Flow], broker: Broker, monitor: Monitor) -> None:
    for bronze in bronzes:
        _look_at(bronze, broker, monitor)


def _look_at(bronze: Flow, broker: Broker, monitor: Monitor) -> None:
    asked_at = time.time()
    try:
        topic = broker.topic(bronze.feed.topic)
        # in this order: what comes in between counts as decided
        ends, stable = broker.end_offsets(topic), broker.stable_offsets(topic)
    except StreamAppError:  # the query itself tells of a broker that is away
        return
    held = {str(p): end - stable[p] for p, end in ends.items() if end > stable.get(p, end)}
    monitor[bronze].held = held
    if not held:
        monitor[bronze].decided = Decided(asked_at, time.time())
