"""One run of the producer: first the history, then live traffic, and a line of progress now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from producer.faults import Kind, Traffic
from producer.log import Log
from producer.publisher import Publisher, Stop, Totals
from producer.schedule import Pace, history
from producer.settings import Settings

PROGRESS_MESSAGES = 50
PROGRESS_SECONDS = 5.0
LOW_RATE = 50.0  # messages a second up to which progress is told by messages, not by time

# Partitions are filled in batches, so one may run ahead of another. History is sent in pieces so short that
# the app never reads partitions further apart than its watermark allows: gold would drop the slower ones.
HISTORY_PIECE_MS = 30_000


class Progress:
    """Tells how far a run is, every so many messages or seconds, and in the end what it came to."""

    def __init__(self, totals: Totals, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._totals = totals
        self._log = log
        self._clock = clock
        self._started = self._told_at = clock()
        self._told_sent = 0

    def by_messages(self) -> None:
        """Call after each message of slow traffic."""
        if self._totals.sent - self._told_sent >= PROGRESS_MESSAGES:
            self._tell("progress")

    def by_time(self) -> None:
        """Call after each message of fast traffic."""
        if self._clock() - self._told_at >= PROGRESS_SECONDS:
            self._tell("progress")

    def history_done(self) -> None:
        """Say that all of the history was sent."""
        self._tell("history sent")

    def totals(self) -> None:
        """Log the last line of a run."""
        totals, seconds = self._totals, self._clock() - self._started
        self._log(
            "totals",
            sent=totals.sent,
            acknowledged=totals.acknowledged,
            failed=totals.failed,
            **{kind.value: totals.kinds[kind] for kind in Kind if kind is not Kind.VALID},
            seconds=round(seconds, 1),
            per_second=_rate(totals.sent, seconds),
        )

    def _tell(self, event: str) -> None:
        totals, now = self._totals, self._clock()
        rate = _rate(totals.sent - self._told_sent, now - self._told_at)
        self._log(event, sent=totals.sent, acknowledged=totals.acknowledged, failed=totals.failed, per_second=rate)
        self._told_at, self._told_sent = now, totals.sent


@dataclass(frozen=True)
class Run:
    """All that one run needs."""

    settings: Settings
    traffic: Traffic
    publisher: Publisher
    progress: Progress
    stop: Stop

    def publish(self) -> None:
        """Send the history and then live traffic, until COUNT messages are sent or a stop is requested.

        Raises PublishError if the client can send no more.
        """
        self._history()
        self._live()

    @property
    def _over(self) -> bool:
        count = self.settings.count
        return self.stop.requested or 0 < count <= self.publisher.totals.sent

    def _history(self) -> None:
        settled_ms = 0
        for timestamp_ms in history(_now_ms(), self.settings.backfill, self.settings.msgs_per_sec):
            if timestamp_ms - settled_ms >= HISTORY_PIECE_MS:
                self.publisher.settle()
                settled_ms = timestamp_ms
            if self._over:
                return
            self.publisher.send(self.traffic.message(timestamp_ms))
            self.progress.by_time()
        if settled_ms:
            self.publisher.settle()
            self.progress.history_done()

    def _live(self) -> None:
        per_second = self.settings.msgs_per_sec
        tell = self.progress.by_messages if 0 < per_second <= LOW_RATE else self.progress.by_time
        pace = Pace(per_second, time.monotonic())
        while not self._over:
            wait = pace.wait(time.monotonic())
            if wait > 0:
                # At high rates this sends a few at a time rather than wake up for each.
                self.publisher.serve(max(wait, 0.005))
            elif self.publisher.send(self.traffic.message(_now_ms())):
                pace.sent(time.monotonic())
                tell()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _rate(messages: int, seconds: float) -> float:
    return round(messages / seconds, 1) if seconds > 0 else 0.0
