"""What open transactions hold back: the records of each partition after its last stable offset, for people to see."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stream_app.errors import StreamAppError
from stream_app.flows.flow import Flow
from stream_app.kafka.broker import Broker
from stream_app.observe.monitor import Monitor

_INTERVAL_SECONDS = 10.0
_END_SECONDS = 1.0


@contextmanager
def watched(flows: Sequence[Flow], broker: Broker, monitor: Monitor) -> Iterator[None]:
    """Ask the broker every few seconds, in a thread of its own: two requests for each topic."""
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(_INTERVAL_SECONDS):
            for flow in flows:
                if flow.upstream is None:
                    _look(flow, broker, monitor)

    thread = threading.Thread(target=loop, daemon=True, name="held")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_END_SECONDS)


def _look(bronze: Flow, broker: Broker, monitor: Monitor) -> None:
    try:
        topic = broker.topic(bronze.feed.topic)
        # in this order: what comes in between counts as decided
        ends, stable = broker.end_offsets(topic), broker.stable_offsets(topic)
    except StreamAppError:  # the query itself tells of a broker that is away
        return
    monitor[bronze].held = {str(p): end - stable[p] for p, end in ends.items() if end > stable.get(p, end)}
