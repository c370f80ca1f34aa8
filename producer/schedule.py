"""When messages are sent, and which Kafka timestamps history carries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

UNLIMITED_HISTORY_RATE = 5.0  # the density of history where MSGS_PER_SEC is 0 and says nothing about it
MAX_DEBT_SECONDS = 1.0


def history(now_ms: int, span: timedelta, per_second: float) -> Iterator[int]:
    """Kafka timestamps spread evenly over the span before now, oldest first, all in [now - span, now)."""
    rate = per_second or UNLIMITED_HISTORY_RATE
    start_ms = now_ms - int(span.total_seconds() * 1000)
    for number in range(int(span.total_seconds() * rate)):
        yield start_ms + int(number * 1000 / rate)


class Pace:
    """Spreads messages evenly over time, at `per_second`; 0 means without waiting.

    After a stall it makes up for at most a second: a laptop that slept for a night must not flood the topic.
    """

    def __init__(self, per_second: float, now: float) -> None:
        self._interval = 1 / per_second if per_second else 0.0
        self._due = now

    def wait(self, now: float) -> float:
        """Seconds until the next message is due; 0 or less means now."""
        return self._due - now if self._interval else 0.0

    def sent(self, now: float) -> None:
        """Note that a message was sent: the next is due one interval after this one was."""
        self._due = max(self._due, now - MAX_DEBT_SECONDS) + self._interval
